"""Time and memory of one call, on a GPU, or on the CPU for a dry run."""

import subprocess
import time
from collections.abc import Callable

import torch

HEAD_START = 1e-3  # seconds: launches of the call are queued meanwhile, so that the host's time is not counted
EXP_PER_CLOCK = 16  # results of ex2.approx per multiprocessor, compute capability 8.0 to 10.0 and 12.0


class Gpu:
    def __init__(self) -> None:
        self.properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.hertz = self.properties.clock_rate * 1e3
        # Larger than L2, so that no call finds its inputs there.
        self.flush = torch.empty(max(256 << 20, 4 * self.properties.L2_cache_size), dtype=torch.uint8, device="cuda")

    def milliseconds(self, call: Callable) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        torch.cuda._sleep(int(HEAD_START * self.hertz))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def peak(self, call: Callable) -> tuple[int, object]:
        """The most bytes that the call held beyond what was held before; and its result."""
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before, result

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def release(self) -> None:
        torch.cuda.empty_cache()

    def crowded(self, extra: int) -> bool:
        """Whether blocks of this size kept for reuse may leave no room for a call, which would then wait for them."""
        return torch.cuda.memory_allocated() + extra > 0.7 * self.properties.total_memory

    def describe(self) -> dict:
        driver = "unknown"
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
        except (OSError, subprocess.CalledProcessError, IndexError):
            pass  # the page says unknown
        return {
            "device": self.properties.name,
            "capability": f"{self.properties.major}.{self.properties.minor}",
            "multiprocessors": self.properties.multi_processor_count,
            "clock_mhz": round(self.hertz / 1e6),
            "memory_gib": round(self.properties.total_memory / 2**30, 1),
            "l2_mib": round(self.properties.L2_cache_size / 2**20),
            "driver": driver,
            "cuda": torch.version.cuda,
            "exp_per_second": self.properties.multi_processor_count * self.hertz * EXP_PER_CLOCK or None,
        }


class Cpu:
    """Runs everything, proves nothing."""

    def milliseconds(self, call: Callable) -> float:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3

    def peak(self, call: Callable) -> tuple[None, object]:
        return None, call()

    def synchronize(self) -> None: ...

    def release(self) -> None: ...

    def crowded(self, extra: int) -> bool:
        return False

    def describe(self) -> dict:
        return {"device": "CPU"}


def open_device(name: str) -> Gpu | Cpu:
    return Gpu() if name == "cuda" else Cpu()
