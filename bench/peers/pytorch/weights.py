"""The parameters of a file as leaves of autograd."""

import numpy as np
import torch


def to_host(tensor):
    return tensor.detach().float().cpu().numpy()


class Weights:
    def __init__(self, tensors, device="cpu", dtype=None):
        """dtype: of all floats; default: as in the file."""
        self._tensors = tensors
        self._leaves = {}  # name -> a leaf, or one for each row of the first axis
        self.device = device
        self._dtype = dtype

    def constant(self, name):
        tensor = torch.from_numpy(self._tensors[name]).to(self.device)
        return tensor if self._dtype is None or not tensor.is_floating_point() else tensor.to(self._dtype)

    def leaf(self, name):
        self._leaves[name] = self.constant(name).clone().requires_grad_()
        return self._leaves[name]

    def leaves(self, name):
        """One leaf for each row: the gradient of a slice of a leaf would have the size of all rows."""
        if name not in self._leaves:
            self._leaves[name] = [row.clone().requires_grad_() for row in self.constant(name)]
        return self._leaves[name]

    def parameters(self):
        for entry in self._leaves.values():
            yield from entry if isinstance(entry, list) else [entry]

    def zero_gradients(self):
        for parameter in self.parameters():
            parameter.grad = None

    def gradients(self):
        """By name, as in the file."""

        def gradient(leaf):
            return to_host(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)

        return {
            name: np.stack([gradient(row) for row in entry]) if isinstance(entry, list) else gradient(entry)
            for name, entry in self._leaves.items()
        }
