"""Grouped products in Triton that gather their rows and finish bias and activation themselves, forward and backward."""

import torch
import triton
import triton.language as tl

from gpu.routed import sum_by_expert, sum_slots


def configs(*tiles):
    return [
        triton.Config({"BM": bm, "BN": bn, "BK": bk}, num_warps=warps, num_stages=stages)
        for bm, bn, bk, warps, stages in tiles
    ]


ROWS_CONFIGS = configs(
    (64, 64, 32, 4, 4),
    (64, 128, 32, 4, 4),
    (64, 128, 64, 4, 3),
    (64, 256, 32, 4, 4),
    (128, 64, 32, 4, 4),
    (128, 64, 64, 4, 3),
    (128, 128, 32, 4, 4),
    (128, 128, 64, 4, 3),
    (128, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 256, 32, 8, 4),
    (128, 256, 64, 8, 3),
    (256, 128, 64, 8, 3),
)
SUMS_CONFIGS = configs(
    (64, 64, 32, 4, 4),
    (64, 64, 64, 4, 4),
    (64, 128, 32, 4, 4),
    (64, 128, 64, 4, 3),
    (128, 64, 32, 4, 4),
    (128, 64, 64, 4, 3),
    (128, 128, 32, 4, 4),
    (128, 128, 64, 4, 3),
    (128, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 256, 32, 8, 3),
    (256, 128, 32, 8, 3),
)


@triton.autotune(ROWS_CONFIGS, key=["num_rows", "n", "k"])
@triton.jit
def rows_kernel(
    a, weight, bias, out, ends, tokens, num_rows, n, k, stride_e, stride_n, stride_k,
    num_experts: tl.constexpr, relu: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[r] = act(a[tokens[r]] W_e^T + bias[e]) for each row r of each expert e. W_e: [n, k] in any layout."""
    tile = tl.program_id(0)
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    # The tiles of an expert start at its first row.
    expert, first, last, tiles, begin = 0, 0, 0, 0, 0
    for e in range(num_experts):
        end = tl.load(ends + e)
        here = tl.cdiv(end - begin, BM)
        is_here = (tile >= tiles) & (tile < tiles + here)
        expert = tl.where(is_here, e, expert)
        first = tl.where(is_here, begin + (tile - tiles) * BM, first)
        last = tl.where(is_here, end, last)
        tiles += here
        begin = end
    if first < last:
        rows = first + tl.arange(0, BM)
        in_rows, in_cols = rows < last, cols < n
        sources = rows if tokens is None else tl.load(tokens + rows, mask=in_rows, other=0)
        depth = tl.arange(0, BK)
        a_tile = a + sources.to(tl.int64)[:, None] * k + depth[None, :]
        w_tile = weight + expert.to(tl.int64) * stride_e + cols[None, :] * stride_n + depth[:, None] * stride_k
        sums = tl.zeros((BM, BN), tl.float32)
        for start in range(0, k, BK):
            in_depth = start + depth < k
            a_block = tl.load(a_tile, mask=in_rows[:, None] & in_depth[None, :], other=0.0)
            w_block = tl.load(w_tile, mask=in_cols[None, :] & in_depth[:, None], other=0.0)
            sums = tl.dot(a_block, w_block, sums)
            a_tile += BK
            w_tile += BK * stride_k
        if bias is not None:
            sums += tl.load(bias + expert * n + cols, mask=in_cols, other=0.0).to(tl.float32)[None, :]
        if relu:
            sums = tl.maximum(sums, 0.0)
        out_tile = out + rows.to(tl.int64)[:, None] * n + cols[None, :]
        tl.store(out_tile, sums.to(out.dtype.element_ty), mask=in_rows[:, None] & in_cols[None, :])


@triton.autotune(SUMS_CONFIGS, key=["num_rows", "m", "n"])
@triton.jit
def sums_kernel(a, b, out, ends, num_rows, m, n, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """out[e] = sum of a[r]^T b[r] over the rows r of each expert e: [m, n]"""
    expert = tl.program_id(2)
    begin = tl.load(ends + expert - 1, mask=expert > 0, other=0)
    end = tl.load(ends + expert)
    left = tl.program_id(0) * BM + tl.arange(0, BM)
    right = tl.program_id(1) * BN + tl.arange(0, BN)
    in_left, in_right = left < m, right < n
    sums = tl.zeros((BM, BN), tl.float32)
    for start in range(begin, end, BK):
        rows = start + tl.arange(0, BK)
        in_rows = rows < end
        a_tile = a + rows.to(tl.int64)[None, :] * m + left[:, None]
        b_tile = b + rows.to(tl.int64)[:, None] * n + right[None, :]
        a_block = tl.load(a_tile, mask=in_rows[None, :] & in_left[:, None], other=0.0)
        b_block = tl.load(b_tile, mask=in_rows[:, None] & in_right[None, :], other=0.0)
        sums = tl.dot(a_block, b_block, sums)
    out_tile = out + expert.to(tl.int64) * m * n + left[:, None] * n + right[None, :]
    tl.store(out_tile, sums.to(out.dtype.element_ty), mask=in_left[:, None] & in_right[None, :])


def multiply_rows(a, weight, bias, routed, gather=False, relu=False):
    """weight: [num_experts, n, k], any strides. Returns [num_routed, n]."""
    num_rows, (num_experts, n, k) = len(routed.tokens), weight.shape
    out = a.new_empty(num_rows, n)
    tokens = routed.tokens if gather else None

    def grid(tile):
        return triton.cdiv(num_rows, tile["BM"]) + num_experts, triton.cdiv(n, tile["BN"])

    sizes = (num_rows, n, k, *weight.stride())
    rows_kernel[grid](a, weight, bias, out, routed.ends, tokens, *sizes, num_experts=num_experts, relu=relu)
    return out


def sum_products(a, b, routed):
    """a: [num_routed, m]; b: [num_routed, n]. Returns [num_experts, m, n]."""
    (num_rows, m), n = a.shape, b.shape[1]
    out = a.new_empty(routed.num_experts, m, n)

    def grid(tile):
        return triton.cdiv(m, tile["BM"]), triton.cdiv(n, tile["BN"]), routed.num_experts

    sums_kernel[grid](a, b, out, routed.ends, num_rows, m, n)
    return out


class Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, routed):
        hidden = multiply_rows(x, weight, bias, routed, gather=True, relu=True)
        ctx.save_for_backward(x, weight, hidden)
        ctx.routed = routed
        return hidden

    @staticmethod
    def backward(ctx, d_hidden):
        (x, weight, hidden), routed = ctx.saved_tensors, ctx.routed
        d_z = torch.ops.aten.threshold_backward(d_hidden.contiguous(), hidden, 0)
        d_x = sum_slots(multiply_rows(d_z, weight.mT, None, routed), routed.inverse, routed.top_k)
        d_bias = sum_by_expert(d_z, routed.experts, routed.num_experts)
        # A copy: loads through an index are not prefetched in that kernel, which costs more.
        d_weight = sum_products(d_z, x.index_select(0, routed.tokens), routed)
        return d_x, d_weight, d_bias, None


class Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, weight, bias, routed):
        ctx.save_for_backward(rows, weight)
        ctx.routed = routed
        return multiply_rows(rows, weight, bias, routed)

    @staticmethod
    def backward(ctx, d_out):
        (rows, weight), routed = ctx.saved_tensors, ctx.routed
        d_out = d_out.contiguous()
        d_rows = multiply_rows(d_out, weight.mT, None, routed)
        d_bias = sum_by_expert(d_out, routed.experts, routed.num_experts)
        return d_rows, sum_products(d_out, rows, routed), d_bias, None


class TritonProducts:
    """In place of TorchProducts."""

    up = Up.apply
    down = Down.apply
