"""longfold's stand-in for an absent DeepSpeed: see longfold.deepspeed4science.install()."""

from . import comm, ops, utils
from ._absent import absent
from .runtime.activation_checkpointing import checkpointing

__all__ = ["checkpointing", "comm", "ops", "utils"]
__version__ = "0.0.0+longfold"  # lower than any DeepSpeed, whose other features are not here

__getattr__ = absent(__name__)
