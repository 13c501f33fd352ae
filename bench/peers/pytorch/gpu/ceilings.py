"""What the device can do at most: a product of cuBLAS, a copy."""

import torch

from gpu.timing import WARM_UPS

DTYPES = {"f32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Ceilings:
    def __init__(self, device, timer):
        self.device = device
        self.timer = timer

    def recover(self):
        self.timer.synchronize()

    def gemm(self, m, n, k, dtype, iterations):
        """C [m, n] = A [m, k] B^T, with B [n, k] as the weights of a layer are stored."""
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        a, b = (torch.randn(rows, k, device=self.device).to(DTYPES[dtype]) for rows in (m, n))
        out = a.new_empty(m, n)
        return self.measured(lambda: torch.mm(a, b.t(), out=out), iterations)

    def memcpy(self, bytes, iterations):
        source = torch.randn(bytes // 4, device=self.device)
        target = torch.empty_like(source)
        return self.measured(lambda: target.copy_(source), iterations)

    def measured(self, run, iterations):
        self.timer.sample(run, WARM_UPS)
        return {"seconds": self.timer.sample(run, iterations)}
