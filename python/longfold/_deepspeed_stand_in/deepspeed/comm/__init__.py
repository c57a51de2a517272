"""deepspeed.comm, of which programs ask is_initialized()."""

from .._absent import absent
from . import comm
from .comm import is_initialized

__all__ = ["comm", "is_initialized"]

__getattr__ = absent(__name__)
