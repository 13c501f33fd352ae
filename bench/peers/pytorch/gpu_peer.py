"""PyTorch on a GPU, for the benchmark: one design in one precision.

{"call": "prepare", "case": "moe_block forward", "topK": 8}        {"seconds": [...], "peakBytes": 1, "graph": null}
{"call": "run", "case": ..., "topK": 8, "iterations": 20, "graph": false}                 {"seconds": [0.001, ...]}

`prepare` compiles, warms up and captures a CUDA graph; "graph" says why there is none. With the design "ceilings":

{"call": "gemm", "m": 8, "n": 8, "k": 8, "dtype": "bf16", "iterations": 20}               {"seconds": [0.001, ...]}
{"call": "memcpy", "bytes": 1024, "iterations": 20}                                       {"seconds": [0.001, ...]}
"""

import argparse
import gc
import platform
import subprocess

import torch

import protocol
from gpu.ceilings import Ceilings
from gpu.designs import DESIGNS
from gpu.timing import WARM_UPS, CpuTimer, CudaTimer

# Runs before each sample, which fill the caches again after somebody else had the device.
SAMPLE_WARM_UPS = 3


class GpuPeer(protocol.Peer):
    def __init__(self, design, timer):
        super().__init__(design.case)
        self.design = design
        self.timer = timer
        self.replays = {}  # (case, top_k) -> a captured run

    def load(self, case, file):
        # One case at a time: the next may need the memory.
        self.cases.clear()
        self.replays.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return super().load(case, file)

    def runner(self, case, top_k):
        return lambda: self.cases[case].run(top_k)

    def prepare(self, case, topK):
        run = self.runner(case, topK)
        seconds = self.timer.sample(run, WARM_UPS)
        peak_bytes = self.timer.peak_bytes(run)
        obstacle = self.capture(case, topK, run)
        self.timer.sample(run, 1)  # a failed capture must not have broken anything
        return {"seconds": seconds, "peakBytes": peak_bytes, "graph": obstacle}

    def capture(self, case, top_k, run):
        """Returns why there is no CUDA graph, if there is none."""
        if not self.design.captures:
            return "its host waits for the device"
        try:
            self.replays[case, top_k] = self.timer.capture(run)
            return None
        except Exception as error:
            return repr(error)

    def run(self, case, topK, iterations, graph):
        run = self.replays[case, topK] if graph else self.runner(case, topK)
        self.timer.sample(run, SAMPLE_WARM_UPS)
        return {"seconds": self.timer.sample(run, iterations)}

    def recover(self):
        self.timer.synchronize()  # ends the process if the device is lost


def triton_version():
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def describe(device):
    versions = {"torch": torch.__version__, "triton": triton_version(), "cuda": torch.version.cuda}
    if device.type == "cpu":
        return {**versions, "driver": None, "device": platform.machine()}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return {**versions, "driver": driver, "device": torch.cuda.get_device_name(device)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--design", choices=[*DESIGNS, "ceilings"], required=True)
    parser.add_argument("--dtype", choices=["f32", "tf32", "bf16"], required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = arguments.dtype == "tf32"
    timer = CudaTimer() if device.type == "cuda" else CpuTimer()
    if arguments.design == "ceilings":
        peer = Ceilings(device, timer)
    else:
        peer = GpuPeer(DESIGNS[arguments.design](device), timer)
    protocol.serve(describe(device), peer)


if __name__ == "__main__":
    main()
