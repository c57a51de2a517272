"""DS4Sci_EvoformerAttention with DeepSpeed's name and meaning, and install() to put it where programs look for it."""

import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Sequence

from torch import Tensor

from . import _arguments, evoformer_attention

__all__ = ["DS4Sci_EvoformerAttention", "install"]

_STAND_IN = pathlib.Path(__file__).resolve().parent / "_deepspeed_stand_in"


def DS4Sci_EvoformerAttention(Q: Tensor, K: Tensor, V: Tensor, biases: Sequence[Tensor | None]) -> Tensor:  # noqa: N802
    """softmax(Q K^T / sqrt(Dim) + biases) V, as `deepspeed.ops.deepspeed4science.DS4Sci_EvoformerAttention`.

    Args:
        Q, K, V: [Batch, N, L, Head, Dim]. Any dtype of `longfold.evoformer_attention`, float32 too; K and V may have
            another length than Q.
        biases: up to two, the mask [Batch, N, 1, 1, L] first, the pair bias [Batch, 1, Head, L, L] second; either may
            be None or missing, and of any floating dtype. The list is not changed.

    Returns:
        [Batch, N, L, Head, Dim] in the dtype of Q, contiguous.

    A row whose every key is masked gives the mean of V, as with DeepSpeed.

    Raises:
        ValueError: "[DS4Sci_EvoformerAttention] expected ..., got ..." for wrong shapes.
        TypeError: the same for what should be a tensor and is not, and for a bias of no floating dtype.
        RuntimeError: from `evoformer_attention` for dtypes and devices.
    """
    _arguments.check_tensors("DS4Sci_EvoformerAttention", Q=Q, K=K, V=V)
    biases = _arguments.listed("DS4Sci_EvoformerAttention", biases, may_be_none=True)
    if len(biases) > 2:
        raise ValueError(f"[DS4Sci_EvoformerAttention] expected at most 2 biases, got {len(biases)}")
    if Q.dim() != 5 or K.dim() != 5:
        raise ValueError(
            "[DS4Sci_EvoformerAttention] expected Q and K of shape [Batch, N, L, Head, Dim], "
            f"got {list(Q.shape)} and {list(K.shape)}"
        )
    mask, pair = (*biases, None, None)[:2]
    batch, rows, queries, heads, _ = Q.shape
    keys = K.shape[2]
    if mask is not None:
        _check_shape("biases[0] (mask)", mask, (batch, rows, 1, 1, keys), _column_hint(mask, batch, rows, keys))
    if pair is not None:
        _check_shape("biases[1] (pair bias)", pair, (batch, 1, heads, queries, keys))
    names = {"biases[0] (mask)": mask, "biases[1] (pair bias)": pair}
    _arguments.check_floating("DS4Sci_EvoformerAttention", **{name: b for name, b in names.items() if b is not None})
    return evoformer_attention(Q, K, V, [b for b in (mask, pair) if b is not None], fully_masked="mean")


def _check_shape(name: str, bias: Tensor, expected: tuple[int, ...], hint: str = "") -> None:
    if tuple(bias.shape) != expected:
        raise ValueError(
            f"[DS4Sci_EvoformerAttention] expected {name} of shape {list(expected)}, got {list(bias.shape)}{hint}"
        )


def _column_hint(mask: Tensor, batch: int, rows: int, keys: int) -> str:
    """DeepSpeed's tutorial gives the mask of MSA column attention the shape [Batch, N_seq, 1, 1, N_res]."""
    if tuple(mask.shape) != (batch, keys, 1, 1, rows):
        return ""
    return "; for MSA column attention, Q [Batch, N_res, N_seq, Head, Dim], the mask is [Batch, N_res, 1, 1, N_seq]"


def install() -> None:
    """Makes `from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention` give the function above.

    Call it before the modules that import that name: those that already have it keep what they have. An installed
    DeepSpeed is imported, and stays as it is but for that one name, here and in `evoformer_attn`. Where there is none,
    a stand-in package `deepspeed` goes to the end of sys.path. It has that name, answers what programs ask on their
    way to it (`comm.comm.is_initialized()`, `checkpointing.is_configured()`), and says of the rest that it is absent.

    Raises:
        ImportError: if the installed DeepSpeed is older than 0.10.3 and has no deepspeed4science, or if `deepspeed` is
            a bare module without a __spec__, which something else has put into sys.modules.
    """
    try:
        spec = importlib.util.find_spec("deepspeed")
    except ValueError as error:
        raise ImportError(f"[install] expected a package deepspeed or none, got a bare module: {error}") from error
    if spec is None or spec.origin is None:  # absent, or a mere folder of that name
        sys.path.append(str(_STAND_IN))
        importlib.invalidate_caches()
        return
    if _STAND_IN in pathlib.Path(spec.origin).parents:
        return
    for name in ("deepspeed.ops.deepspeed4science", "deepspeed.ops.deepspeed4science.evoformer_attn"):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in (name, "deepspeed.ops.deepspeed4science"):
                raise
            raise ImportError(
                f"[install] expected DeepSpeed 0.10.3 or newer, got {spec.origin} without {error.name}"
            ) from error
        module.DS4Sci_EvoformerAttention = DS4Sci_EvoformerAttention
