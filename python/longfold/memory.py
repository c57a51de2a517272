"""How much memory tensors take, exactly: what torch's CPU allocator hands out, counted as it does so."""

import threading

import torch

from . import _library

__all__ = ["MemoryMeter"]


class MemoryMeter:
    """Measures the memory of CPU tensors over a block of code.

        with MemoryMeter() as meter:
            out = evoformer_attention(q, k, v, [mask, pair])
        print(meter.extra_peak)

    The first use puts a counting allocator in the place of torch's for the rest of the process: tensors made before it
    are not counted, so begin early. It also keeps freed blocks for reuse (those do not count as live). Meters may
    follow each other but not nest, since there is one peak for the process, in all of its threads.

    Raises:
        ImportError: from MemoryMeter(), where the library is not built, or for another torch.
        RuntimeError: "[MemoryMeter] expected ..., got ..." on entering the block of a meter inside that of another.
    """

    _in_use = threading.Lock()  # held for as long as a block lasts

    def __init__(self) -> None:
        _library.load("longfold_memory")
        torch.ops.longfold.memory_install()
        self.start = 0
        self._peak: int | None = None

    def __enter__(self) -> "MemoryMeter":
        if not MemoryMeter._in_use.acquire(blocking=False):
            raise RuntimeError("[MemoryMeter] expected blocks that follow each other, got one inside another")
        torch.ops.longfold.memory_reset_peak()
        self.start = torch.ops.longfold.memory_live()
        self._peak = None
        return self

    def __exit__(self, *_: object) -> None:
        self._peak = torch.ops.longfold.memory_peak()
        MemoryMeter._in_use.release()

    @property
    def live(self) -> int:
        """Bytes that tensors hold now."""
        return torch.ops.longfold.memory_live()

    @property
    def peak(self) -> int:
        """The most bytes that were live at once, up to now or to the end of the block."""
        return torch.ops.longfold.memory_peak() if self._peak is None else self._peak

    @property
    def extra_peak(self) -> int:
        """The peak less what was live when the block began."""
        return self.peak - self.start
