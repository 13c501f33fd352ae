"""Times on the device's own clock, and what one run looks like as a CUDA graph."""

import time
from itertools import pairwise

import torch

WARM_UPS = 20
CAPTURE_WARM_UPS = 3


class CudaTimer:
    """Runs are queued one after the other, without a wait between them."""

    def sample(self, run, iterations):
        """Returns the seconds of each run, between events."""
        events = [torch.cuda.Event(enable_timing=True) for _ in range(iterations + 1)]
        events[0].record()
        for event in events[1:]:
            run()
            event.record()
        events[-1].synchronize()
        return [begin.elapsed_time(end) / 1000 for begin, end in pairwise(events)]

    def peak_bytes(self, run):
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    def capture(self, run):
        """Returns what replays one run as a CUDA graph. Raises if the run waits for the device."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(CAPTURE_WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def synchronize(self):
        torch.cuda.synchronize()


class CpuTimer:
    """For tries without a GPU."""

    def sample(self, run, iterations):
        times = [time.perf_counter()]
        for _ in range(iterations):
            run()
            times.append(time.perf_counter())
        return [end - begin for begin, end in pairwise(times)]

    def peak_bytes(self, run):
        run()
        return 0

    def capture(self, run):
        raise RuntimeError("a CPU has no graphs")

    def synchronize(self):
        pass
