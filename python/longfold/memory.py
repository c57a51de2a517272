"""How much memory tensors take, exactly: what torch's allocator of a device hands out, counted as it does so."""

import threading

import torch

from . import _library

__all__ = ["MemoryMeter"]


class MemoryMeter:
    """Measures the memory of tensors over a block of code.

        with MemoryMeter() as meter:
            out = evoformer_attention(q, k, v, [mask, pair])
        print(meter.extra_peak)

    On the CPU the first use puts a counting allocator in the place of torch's for the rest of the process: tensors made
    before it are not counted, so begin early. It also keeps freed blocks for reuse (those do not count as live). On a
    GPU torch counts by itself (`torch.cuda.memory_allocated`, in blocks of 512 bytes), and the meter resets its peak.
    Meters may follow each other but not nest, since there is one peak for the process, in all of its threads.

    Args:
        device: whose tensors: "cpu", "cuda" (the current GPU) or "cuda:1".

    Raises:
        ImportError: from MemoryMeter(), where the library is not built, or for another torch.
        ValueError: "[MemoryMeter] expected ..., got ..." for another device.
        RuntimeError: the same on entering the block of a meter inside that of another.
    """

    _in_use = threading.Lock()  # held for as long as a block lasts

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        if self.device.type not in ("cpu", "cuda"):
            raise ValueError(f"[MemoryMeter] expected a device cpu or cuda, got {self.device}")
        if not self._on_gpu:
            _library.load("longfold_memory")
            torch.ops.longfold.memory_install()
        self.start = 0
        self._peak: int | None = None

    def __enter__(self) -> "MemoryMeter":
        if not MemoryMeter._in_use.acquire(blocking=False):
            raise RuntimeError("[MemoryMeter] expected blocks that follow each other, got one inside another")
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            torch.ops.longfold.memory_reset_peak()
        self.start = self.live
        self._peak = None
        return self

    def __exit__(self, *_: object) -> None:
        self._peak = self.peak
        MemoryMeter._in_use.release()

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def live(self) -> int:
        """Bytes that tensors hold now."""
        return torch.cuda.memory_allocated(self.device) if self._on_gpu else torch.ops.longfold.memory_live()

    @property
    def peak(self) -> int:
        """The most bytes that were live at once, up to now or to the end of the block."""
        if self._peak is not None:
            return self._peak
        return torch.cuda.max_memory_allocated(self.device) if self._on_gpu else torch.ops.longfold.memory_peak()

    @property
    def extra_peak(self) -> int:
        """The peak less what was live when the block began."""
        return self.peak - self.start
