"""Relative attention with FlexAttention, which reads the scores of the positions in its inner loop."""

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from gpu.attention import heads_first, position_scores


def causal_blocks(q_len, k_len, device):
    """Which tiles FlexAttention may skip, for a segment of q_len behind k_len - q_len remembered positions."""
    past = k_len - q_len
    return create_block_mask(lambda b, h, i, j: j <= i + past, None, None, q_len, k_len, device=str(device))


def attend_flex(q, k, v, p, content_bias, position_bias, blocks):
    q_len, batch, heads, _ = q.shape
    k_len = len(k)
    scores = position_scores(q, p, position_bias).view(heads, batch, q_len, k_len)

    def add_position(score, b, h, i, j):
        # Blocked pairs are asked for too.
        return score + scores[h, b, i, torch.clamp(j - i + q_len - 1, max=k_len - 1)]

    queries, keys, values = (heads_first(x) for x in (q + content_bias, k, v))
    return flex_attention(queries, keys, values, score_mod=add_position, block_mask=blocks).permute(2, 0, 1, 3)
