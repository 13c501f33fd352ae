"""The published design: eager float32, a product per expert, and a wait of the host for each count."""

import math

import torch
import torch.nn.functional as F

from moe import HyperRouter


def wait(device):
    if device.type == "cuda":
        torch.cuda.current_stream().synchronize()


class Router(HyperRouter):
    """Evaluates the hypernetwork at every call, like HyperRouter."""

    def logits(self, x):
        # Never in TF32: other rounding sends tokens to other experts, and there would be nothing to compare.
        matmul = torch.backends.cuda.matmul
        allowed, matmul.allow_tf32 = matmul.allow_tf32, False
        try:
            return super().logits(x)
        finally:
            matmul.allow_tf32 = allowed


class ExpertLinear(torch.autograd.Function):
    """x W_e^T + b_e for the rows of each expert e, with the counts on the host."""

    @staticmethod
    def forward(ctx, x, weight, bias, counts):
        # A bias for each row, which the products read and overwrite.
        out = bias.repeat_interleave(counts.to(bias.device), dim=0)
        for rows, out_rows, matrix in zip(x.split(counts.tolist()), out.split(counts.tolist()), weight):
            torch.addmm(out_rows, rows, matrix.t(), out=out_rows)
        wait(x.device)
        ctx.save_for_backward(x, weight, counts)
        return out

    @staticmethod
    def backward(ctx, d_out):
        x, weight, counts = ctx.saved_tensors
        d_x, d_weight = torch.empty_like(x), torch.empty_like(weight)
        d_bias = torch.empty_like(weight[:, :, 0])
        inputs, d_inputs, d_outs = (tensor.split(counts.tolist()) for tensor in (x, d_x, d_out))
        for expert, d_rows in enumerate(d_outs):
            torch.mm(d_rows, weight[expert], out=d_inputs[expert])
            torch.mm(d_rows.t(), inputs[expert], out=d_weight[expert])
            torch.sum(d_rows, dim=0, out=d_bias[expert])
        wait(x.device)
        return d_x, d_weight, d_bias, None


class Experts:
    """Counts, scatter, two products per expert, gather, weighted sum."""

    def __init__(self, weights, name):
        self.w1, self.b1, self.w2, self.b2 = (weights.leaf(f"{name}.{part}") for part in ("w1", "b1", "w2", "b2"))

    def forward(self, x, expert_indices, expert_weights):
        num_tokens, top_k = expert_indices.shape
        slots = expert_indices.flatten()
        counts_on_device = torch.bincount(slots, minlength=len(self.w1))
        counts = counts_on_device.cpu()
        num_rows = int(counts_on_device.sum().item())
        order = slots.argsort(stable=True)[:num_rows]
        rows = x.index_select(0, order.div(top_k, rounding_mode="floor"))
        hidden = F.relu(ExpertLinear.apply(rows, self.w1, self.b1, counts))
        rows = ExpertLinear.apply(hidden, self.w2, self.b2, counts)
        y = torch.zeros_like(rows).index_copy_(0, order, rows).view(num_tokens, top_k, -1)
        return torch.bmm(expert_weights.unsqueeze(1), y).squeeze(1)


def shift(scores):
    """[q_len, k_len, ...]: moves row i left by q_len - 1 - i, so that column = distance becomes column = key."""
    q_len, k_len, *rest = scores.shape
    padded = torch.cat([scores.new_zeros(q_len, 1, *rest), scores], dim=1)
    return padded.view(k_len + 1, q_len, *rest)[1:].view_as(scores)


def attend(q, k, v, p, content_bias, position_bias, blocked):
    """q: [q_len, batch, heads, d_head]; k, v: [k_len, ...]; p: [k_len, heads, d_head]; blocked: [q_len, k_len]."""
    content = torch.einsum("ibhd,jbhd->ijbh", q + content_bias, k)
    position = shift(torch.einsum("ibhd,jhd->ijbh", q + position_bias, p))
    scores = (content + position).mul_(1 / math.sqrt(q.shape[-1]))
    if blocked.any().item():
        scores = scores.masked_fill(blocked[:, :, None, None], -math.inf)
    return torch.einsum("ijbh,jbhd->ibhd", scores.softmax(dim=1), v)
