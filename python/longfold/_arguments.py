"""Checks that arguments are dense tensors at all, before anything asks them for strides. The ops check the rest."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_tensors(op: str, **arguments: object) -> None:
    """Raises TypeError for the first argument that is not a dense tensor."""
    for name, value in arguments.items():
        if not _is_dense(value):
            raise TypeError(f"[{op}] expected {name} to be a dense tensor, got {_kind(value)}")


def listed(op: str, biases: Sequence[Tensor | None], may_be_none: bool) -> list[Tensor | None]:
    """The biases as a new list. Raises TypeError unless they are a sequence of dense tensors, or of these and None."""
    if not isinstance(biases, Sequence) or isinstance(biases, (str, bytes)):
        kind = _kind(biases)
    elif all(_is_dense(bias) or (may_be_none and bias is None) for bias in biases):
        return list(biases)
    else:
        kind = f"[{', '.join(map(_kind, biases))}]"
    raise TypeError(f"[{op}] expected biases to be a sequence of dense tensors{' or None' * may_be_none}, got {kind}")


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "a tensor" if _is_dense(value) else f"a tensor of layout {value.layout}"
