from . import comm
from .comm import is_initialized

__all__ = ["comm", "is_initialized"]
