"""PyTorch on the CPU, for the benchmark. Threads come from OMP_NUM_THREADS and OPENBLAS_NUM_THREADS."""

import os
import time

import torch

import protocol
from moe import moe_block_case
from transformer_xl import TrainingStepCase

CASES = {"moe_block forward+backward": moe_block_case, "training_step": TrainingStepCase}


def blas_libraries():
    """The BLAS that this process has loaded: Debian's alternatives decide, not PyTorch."""
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if "blas" in line}
    return sorted(os.path.realpath(file) for file in files)


class Peer(protocol.Peer):
    def run(self, case, topK):
        start = time.perf_counter()
        self.cases[case].run(topK)
        return {"seconds": time.perf_counter() - start}


description = {"version": torch.__version__, "threads": torch.get_num_threads(), "libraries": blas_libraries()}
protocol.serve(description, Peer(lambda case, *inputs: CASES[case](*inputs)))
