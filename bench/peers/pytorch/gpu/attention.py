"""Relative attention with the fused kernel of PyTorch, to which the relative positions are a matrix to add."""

import math

import torch
import torch.nn.functional as F

from transformer_xl import relative_shift


def position_scores(q, p, position_bias):
    """[heads, batch * q_len, k_len]: for each query and distance, scaled."""
    q_len, batch, heads, d_head = q.shape
    queries = ((q + position_bias) * d_head**-0.5).permute(2, 1, 0, 3).reshape(heads, batch * q_len, d_head)
    return torch.bmm(queries, p.permute(1, 2, 0))


def heads_first(x):
    """[length, batch, heads, d_head] -> [batch, heads, length, d_head]"""
    return x.permute(1, 2, 0, 3)


def attend_sdpa(q, k, v, p, content_bias, position_bias, blocked):
    q_len, batch, heads, _ = q.shape
    scores = position_scores(q, p, position_bias).view(heads * batch, q_len, -1)
    bias = relative_shift(scores).masked_fill(blocked, -math.inf).view(heads, batch, q_len, -1).transpose(0, 1)
    queries, keys, values = (heads_first(x) for x in (q + content_bias, k, v))
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias).permute(2, 0, 1, 3)
