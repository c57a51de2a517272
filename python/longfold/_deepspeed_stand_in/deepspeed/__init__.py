"""longfold's stand-in for an absent DeepSpeed: see longfold.deepspeed4science.install()."""

from . import comm, ops

__all__ = ["comm", "ops"]


def __getattr__(name: str):
    raise AttributeError(f"longfold's stand-in for deepspeed has no '{name}': install DeepSpeed for it")
