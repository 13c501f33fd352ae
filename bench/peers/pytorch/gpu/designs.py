"""The designs by name. Each is imported only when it is asked for, since not every PyTorch has all of them."""

import torch

from gpu.cases import Design


def blocked_pairs(q_len, k_len, device):
    return torch.ones(q_len, k_len, dtype=torch.bool, device=device).triu(k_len - q_len + 1)


def published(device):
    from gpu.published import Experts, Router, attend

    class Published(Design):
        """What was published with HyperRouter, on FastMoE and Transformer-XL."""

        dtype = torch.float32
        captures = False
        router = Router

        def experts(self, weights, name):
            return Experts(weights, name)

        def attention(self, q_len, k_len):
            blocked = blocked_pairs(q_len, k_len, self.device)
            return lambda *inputs: attend(*inputs, blocked)

    return Published(device)


class Eager(Design):
    """The fastest that we know without a compiler."""

    def attention(self, q_len, k_len):
        from gpu.attention import attend_sdpa

        blocked = blocked_pairs(q_len, k_len, self.device)
        return lambda *inputs: attend_sdpa(*inputs, blocked)


class Compiled(Eager):
    def compile(self, function):
        return torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)


class Flex(Compiled):
    def attention(self, q_len, k_len):
        from gpu.flex import attend_flex, causal_blocks

        blocks = causal_blocks(q_len, k_len, self.device)
        return lambda *inputs: attend_flex(*inputs, blocks)


def with_triton(device):
    from gpu.triton_products import TritonProducts

    class Triton(Design):
        products = TritonProducts

    return Triton(device)


DESIGNS = {"published": published, "eager": Eager, "compiled": Compiled, "flex": Flex, "triton": with_triton}
