"""The PyTorch side of the benchmark: a JSON request a line on standard input, a JSON reply a line on standard output.

{"call": "load", "case": "training_step", "file": "inputs.safetensors"}
{"call": "results", "case": "training_step", "topK": 2, "file": "outputs.safetensors"}   what it computes
{"call": "run", "case": "training_step", "topK": 2}                                      {"seconds": 0.05}

The first line out describes what runs here. Threads come from OMP_NUM_THREADS and OPENBLAS_NUM_THREADS.
"""

import json
import os
import sys
import time

import torch

from moe import MoEBlockCase
from tensor_file import read_tensors, write_tensors
from transformer_xl import TrainingStepCase

CASES = {"moe_block forward+backward": MoEBlockCase, "training_step": TrainingStepCase}


def blas_libraries():
    """The BLAS that this process has loaded: Debian's alternatives decide, not PyTorch."""
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if "blas" in line}
    return sorted(os.path.realpath(file) for file in files)


class Peer:
    def __init__(self):
        self.cases = {}

    def load(self, case, file):
        self.cases[case] = CASES[case](*read_tensors(file))
        return {}

    def results(self, case, topK, file):
        write_tensors(file, self.cases[case].results(topK))
        return {}

    def run(self, case, topK):
        start = time.perf_counter()
        self.cases[case].run(topK)
        return {"seconds": time.perf_counter() - start}


def main():
    def reply(message):
        print(json.dumps(message), flush=True)

    reply({"version": torch.__version__, "threads": torch.get_num_threads(), "libraries": blas_libraries()})
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply(getattr(peer, request.pop("call"))(**request))
        except Exception as error:
            reply({"error": repr(error)})


main()
