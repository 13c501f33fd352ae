"""A computation that is run forward, or forward and backward."""

import torch

from weights import to_host


class Case:
    def __init__(self, weights, compute, backward=True):
        """compute: top_k -> y. Backward starts from the gradient dY and ends at the leaves of the weights."""
        self.weights = weights
        self.compute = compute
        self.d_y = weights.constant("dY") if backward else None

    def run(self, top_k):
        if self.d_y is None:
            with torch.no_grad():
                return self.compute(top_k)
        self.weights.zero_gradients()
        y = self.compute(top_k)
        y.backward(self.d_y)
        return y

    def results(self, top_k):
        y = self.run(top_k)
        return {"y": to_host(y), **({} if self.d_y is None else self.weights.gradients())}
