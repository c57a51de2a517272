"""Checks of the types of arguments, before anything asks them for strides or torch for its schema. The ops check the
rest."""

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


def check_floating(op: str, **arguments: Tensor) -> None:
    """Raises TypeError for the first bias that is not of a floating dtype: one of bools would hide keys, which is not
    what the callers of `op` know."""
    for name, value in arguments.items():
        if not value.dtype.is_floating_point:
            raise TypeError(f"[{op}] expected {name} of a floating dtype, got {value.dtype}")


def check_scale(op: str, scale: object) -> None:
    """Raises TypeError for a scale that is neither a number nor None."""
    if scale is not None and not isinstance(scale, (int, float, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"[{op}] expected scale to be a number or None, got {_kind(scale)}")


def check_fully_masked(op: str, fully_masked: object) -> None:
    """Raises TypeError for what is no string."""
    if not isinstance(fully_masked, str):
        raise TypeError(f"[{op}] expected fully_masked to be 'zero' or 'mean', got {_kind(fully_masked)}")


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "a tensor" if _is_dense(value) else f"a tensor of layout {value.layout}"
