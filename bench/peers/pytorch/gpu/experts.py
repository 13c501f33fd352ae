"""Mixtures of experts as grouped products in bf16, on float32 master weights."""

import torch
import torch.nn.functional as F

from gpu.routed import AddBias, Combine, Gather, Routed


class TorchProducts:
    """The grouped products of PyTorch. They take no bias."""

    @staticmethod
    def up(x, weight, bias, routed):
        """x: [num_tokens, d_model] -> relu(x W^T + b) [num_routed, ffn]"""
        rows = Gather.apply(x, routed.tokens, routed.inverse, routed.top_k)
        return F.relu(TorchProducts.down(rows, weight, bias, routed))

    @staticmethod
    def down(rows, weight, bias, routed):
        """rows: [num_routed, k] -> rows W^T + b [num_routed, n]"""
        product = torch._grouped_mm(rows, weight.transpose(-2, -1), offs=routed.ends)
        return AddBias.apply(product, bias, routed.experts)


class GroupedExperts:
    def __init__(self, weights, name, products):
        self.parameters = [weights.leaf(f"{name}.{part}") for part in ("w1", "b1", "w2", "b2")]
        self.products = products

    def forward(self, x, expert_indices, expert_weights):
        x, w1, b1, w2, b2 = (tensor.to(torch.bfloat16) for tensor in (x, *self.parameters))
        routed = Routed(expert_indices, len(w1))
        hidden = self.products.up(x, w1, b1, routed)
        rows = self.products.down(hidden, w2, b2, routed)
        scales = expert_weights.flatten().index_select(0, routed.order).to(torch.bfloat16)
        return Combine.apply(rows * scales.unsqueeze(1), routed.tokens, routed.inverse, routed.top_k)
