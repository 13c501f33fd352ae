"""Runs a script, with the functions that old versions of PyTorch lack in plain loops: on_old_pytorch.py script arguments"""

import math
import os
import runpy
import sys

import torch


def grouped_mm(rows, weights, offs):
    ends = offs.tolist()
    return torch.cat([rows[begin:end] @ weight for begin, end, weight in zip([0, *ends], ends, weights)])


def scaled_dot_product_attention(queries, keys, values, attn_mask):
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1]) + attn_mask
    return scores.softmax(dim=-1) @ values


if not hasattr(torch, "_grouped_mm"):
    torch._grouped_mm = grouped_mm
if not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
    torch.nn.functional.scaled_dot_product_attention = scaled_dot_product_attention
sys.argv.pop(0)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
