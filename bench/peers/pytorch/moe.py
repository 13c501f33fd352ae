"""The HyperRouter mixture of experts with its residual and layer norm."""

import torch
import torch.nn.functional as F

from case import Case
from weights import Weights


class HyperRouter:
    """A frozen hypernetwork that turns a trained embedding into a router."""

    def __init__(self, weights, name, layer):
        self.embedding = weights.leaves(f"{name}.embeddings")[layer]
        self.w1, self.b1, self.w2, self.b2 = (
            weights.constant(f"{name}.{part}")[layer] for part in ("w1", "b1", "w2", "b2")
        )

    def generate(self):
        """Returns weights [num_experts, d_model] and biases [num_experts]."""
        d_model = self.embedding.numel()
        hidden = F.relu(F.linear(self.embedding, self.w1, self.b1))
        rows = F.linear(hidden, self.w2, self.b2).view(-1, d_model + 1)
        return rows[:, :d_model], rows[:, d_model]

    def logits(self, x):
        """x: [num_tokens, d_model] -> [num_tokens, num_experts]"""
        return F.linear(x, *self.generate())


class Experts:
    """Feed-forward networks, each run on the rows that are routed to it."""

    def __init__(self, weights, name, dropout):
        names = (f"{name}.{part}" for part in ("w1", "b1", "w2", "b2"))
        self.experts = list(zip(*(weights.leaves(part) for part in names)))
        self.dropout = dropout

    def forward(self, x, expert_indices, expert_weights):
        top_k = expert_indices.shape[1]
        slots = expert_indices.flatten()
        order = slots.argsort()
        counts = torch.bincount(slots, minlength=len(self.experts)).tolist()
        tokens = order.div(top_k, rounding_mode="floor").split(counts)
        scales = expert_weights.flatten().index_select(0, order).unsqueeze(1).split(counts)
        y = torch.zeros_like(x)
        for (w1, b1, w2, b2), rows, scale in zip(self.experts, tokens, scales):
            hidden = F.linear(x.index_select(0, rows), w1, b1).relu_()
            if self.dropout > 0:
                hidden = F.dropout(hidden, self.dropout)
            y.index_add_(0, rows, F.linear(hidden, w2, b2) * scale)
        return y


class MoEBlock:
    """layer_norm(x + dropout(experts(x)))"""

    def __init__(self, weights, router, experts, norm, dropout=0.0):
        self.router = router
        self.experts = experts
        self.norm_weight = weights.leaf(f"{norm}.weight")
        self.norm_bias = weights.leaf(f"{norm}.bias")
        self.dropout = dropout

    def forward(self, x, top_k):
        """x: [num_tokens, d_model]"""
        logits, expert_indices = self.router.logits(x).topk(top_k, dim=1, sorted=False)
        y = self.experts.forward(x, expert_indices, logits.softmax(dim=1))
        if self.dropout > 0:
            y = F.dropout(y, self.dropout)
        return F.layer_norm(x + y, x.shape[1:], self.norm_weight, self.norm_bias)


def moe_block_case(tensors, _):
    """One block from given inputs and output gradients."""
    weights = Weights(tensors)
    router = HyperRouter(weights, "routers.source", 0)
    block = MoEBlock(weights, router, Experts(weights, "moe.experts", dropout=0.0), "norm")
    x = weights.leaf("x")
    return Case(weights, lambda top_k: block.forward(x, top_k))
