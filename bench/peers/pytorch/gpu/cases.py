"""The computations of the benchmark, with one design each."""

import torch

from case import Case
from gpu.experts import GroupedExperts, TorchProducts
from gpu.routed import Routed
from moe import HyperRouter, MoEBlock
from weights import Weights


def unchanged(function):
    return function


class Design:
    """How a peer computes. Subclasses say what is their own; a case that a design lacks is refused by name."""

    dtype = torch.bfloat16
    captures = True
    products = TorchProducts
    router = HyperRouter
    compile = staticmethod(unchanged)

    def __init__(self, device):
        self.device = device

    def experts(self, weights, name):
        return GroupedExperts(weights, name, self.products)

    def attention(self, q_len, k_len):
        """Returns a function of q, k, v, p and the two biases, each with axes of heads and d_head at the end."""
        raise NotImplementedError("no attention of its own")

    def case(self, name, tensors, _):
        what, how = name.split(" ", 1)
        weights = {"moe_block": self.moe_block, "rel_attention": self.rel_attention, "expert_product": self.product}
        return weights[what](tensors, how)

    def moe_block(self, tensors, direction):
        weights = Weights(tensors, self.device)
        router = self.router(weights, "routers.source", 0)
        block = MoEBlock(weights, router, self.experts(weights, "moe.experts"), "norm")
        x = weights.leaf("x")
        forward = self.compile(block.forward)
        return Case(weights, lambda top_k: forward(x, top_k), direction == "forward+backward")

    def rel_attention(self, tensors, direction):
        weights = Weights(tensors, self.device, self.dtype)
        q, kv, p, u, v = (weights.leaf(name) for name in ("q", "kv", "p", "u", "v"))
        (q_len, batch, width), k_len = q.shape, len(p)
        attend = self.attention(q_len, k_len)

        def forward(q, kv, p, u, v):
            keys, values = kv.view(k_len, batch, 2, *u.shape).unbind(2)
            out = attend(q.view(q_len, batch, *u.shape), keys, values, p.view(k_len, *u.shape), u, v)
            return out.reshape(q_len, batch, width)

        forward = self.compile(forward)
        return Case(weights, lambda _: forward(q, kv, p, u, v), direction == "forward+backward")

    def product(self, tensors, which):
        """One product of the experts, of rows that are routed already."""
        weights = Weights(tensors, self.device, self.dtype)
        x, weight, bias, expert_indices = (weights.constant(name) for name in ("x", "w", "b", "expertIndices"))
        routed = Routed(expert_indices, len(weight))
        multiply = self.compile(getattr(self.products, which))
        return Case(weights, lambda _: multiply(x, weight, bias, routed), backward=False)
