"""Rows in expert order. Nothing here waits for the host, and no sum uses atomics."""

import torch


class Routed:
    """Where the (token, slot) pairs of [num_tokens, top_k] expert indices go."""

    def __init__(self, expert_indices, num_experts):
        device = expert_indices.device
        self.num_experts = num_experts
        self.top_k = expert_indices.shape[1]
        # Keys of two bytes take a quarter of the passes of a radix sort.
        keys, self.order = expert_indices.flatten().to(torch.int16).sort(stable=True)
        self.experts = keys.long()  # [num_routed]
        self.tokens = self.order.div(self.top_k, rounding_mode="floor")
        rows = torch.arange(len(keys), device=device)
        self.inverse = torch.empty_like(self.order).scatter_(0, self.order, rows)
        bounds = torch.arange(num_experts, device=device, dtype=torch.int16)
        self.ends = torch.searchsorted(keys, bounds, right=True, out_int32=True)


def sum_slots(rows, inverse, top_k):
    """[num_routed, d] -> [num_tokens, d]: the sum of each token's rows."""
    return rows.index_select(0, inverse).view(-1, top_k, rows.shape[1]).sum(dim=1)


def sum_by_expert(rows, experts, num_experts):
    """[num_routed, n] -> [num_experts, n]: a product with one-hot rows, which is fast because it is a product."""
    one_hot = experts.unsqueeze(1) == torch.arange(num_experts, device=rows.device)
    return one_hot.to(rows.dtype).t() @ rows


class Gather(torch.autograd.Function):
    """[num_tokens, d] -> [num_routed, d]"""

    @staticmethod
    def forward(ctx, x, tokens, inverse, top_k):
        ctx.save_for_backward(inverse)
        ctx.top_k = top_k
        return x.index_select(0, tokens)

    @staticmethod
    def backward(ctx, d_rows):
        (inverse,) = ctx.saved_tensors
        return sum_slots(d_rows, inverse, ctx.top_k), None, None, None


class Combine(torch.autograd.Function):
    """[num_routed, d] -> [num_tokens, d]: what Gather does backward, and the other way round."""

    @staticmethod
    def forward(ctx, rows, tokens, inverse, top_k):
        ctx.save_for_backward(tokens)
        return sum_slots(rows, inverse, top_k)

    @staticmethod
    def backward(ctx, d_y):
        (tokens,) = ctx.saved_tensors
        return d_y.index_select(0, tokens), None, None, None


class AddBias(torch.autograd.Function):
    """rows + bias[expert of the row]"""

    @staticmethod
    def forward(ctx, rows, bias, experts):
        ctx.save_for_backward(experts)
        ctx.num_experts = len(bias)
        return rows + bias.index_select(0, experts)

    @staticmethod
    def backward(ctx, d_rows):
        (experts,) = ctx.saved_tensors
        return d_rows, sum_by_expert(d_rows, experts, ctx.num_experts), None
