"""deepspeed.utils, of which OpenFold 1.0 asks is_initialized()."""

from .._absent import absent
from ..comm.comm import is_initialized

__all__ = ["is_initialized"]

__getattr__ = absent(__name__)
