"""Attention that never holds the logits in memory, for PyTorch: Evoformer attention on the CPU and CUDA, causal
attention on the CPU."""

from collections.abc import Sequence
from typing import Literal, overload

from . import _library

_library.load("longfold_ops")

import torch  # noqa: E402  (after the check that says which torch is wanted)
from torch import Tensor  # noqa: E402

from . import (  # noqa: E402
    _arguments,
    _vmap,  # noqa: F401  (registers itself)
)
from ._causal import causal_attention  # noqa: E402

__all__ = ["__version__", "causal_attention", "evoformer_attention"]

__version__ = _library.version()


@overload
def evoformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    biases: Sequence[Tensor] = (),
    *,
    scale: float | None = None,
    fully_masked: Literal["zero", "mean"] = "zero",
    return_lse: Literal[False] = False,
) -> Tensor: ...
@overload
def evoformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    biases: Sequence[Tensor] = (),
    *,
    scale: float | None = None,
    fully_masked: Literal["zero", "mean"] = "zero",
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def evoformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    biases: Sequence[Tensor] = (),
    *,
    scale: float | None = None,
    fully_masked: Literal["zero", "mean"] = "zero",
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * q k^T + sum of biases) v, for each of B * N rows and H heads; the logits are never in memory.

    With a mask bias and a pair bias this is the row, column and triangle attention of the Evoformer (Jumper et al.,
    Highly accurate protein structure prediction with AlphaFold, Nature 596, 2021, supplement 1.6).

    Args:
        q: [B, N, Lq, H, D], float32, bfloat16, float16 or float64. Any strides: views, expanded ones too, are never
            copied. B, N, Lq and H may be 0.
        k, v: [B, N, Lk, H, D], dtype and device of q.
        biases: added to the logits. Each broadcasts to [B, N, H, Lq, Lk], and is float32, float64, bfloat16 or float16
            whatever q is. A mask bias is [B, N, 1, 1, Lk], a pair bias [B, 1, H, Lq, Lk]; -inf and -1e9 mask. The
            gradient of one that varies over N, Lq and Lk is as large as it is, and first summed in float32 (float64).
            One of bools, [B, N, 1, 1, Lk], selects instead: where it is False the logit is -1e9, whatever q, k and the
            other biases hold there, and has no gradients.
        scale: D ** -0.5 if None.
        fully_masked: what a row gives whose largest logit is at most -5e8: "zero" output and gradients, or the "mean"
            of v with the gradients of uniform weights.
        return_lse: also return the log-sum-exp of the logits; gradients flow through it.

    Returns:
        out [B, N, Lq, H, D] in the dtype of q; with return_lse also log_sum_exp [B, N, H, Lq], float32 (float64 for
        float64). The same bits for any number of threads, run after run. Sums are kept in float32 (float64).

    Raises:
        RuntimeError: "[evoformer_attention] expected ..., got ..." for wrong shapes, dtypes, devices or options.
        NotImplementedError: for forward-mode differentiation.
        TypeError: "[evoformer_attention] expected ..., got ..." if q, k or v is not a dense tensor, biases not a
            sequence of such, scale neither a number nor None, or fully_masked no string.
        ValueError: "[LONGFOLD_ISA] expected ..., got ...", or "[LONGFOLD_ISA] this CPU has no ...", where that
            environment variable names no instruction set, or one that the CPU lacks; more than 16 biases on CUDA.

    Under torch.autocast q, k and v are cast as scaled_dot_product_attention's are; biases keep their dtype.

    Differentiable any number of times. The first derivative is the op's own; second and further ones are torch's, of a
    formula that does hold several tensors of [B, N, H, Lq, Lk].
    """
    _arguments.check_tensors("evoformer_attention", q=q, k=k, v=v)
    biases = _arguments.listed("evoformer_attention", biases, may_be_none=False)
    _arguments.check_scale("evoformer_attention", scale)
    _arguments.check_fully_masked("evoformer_attention", fully_masked)
    out, lse, _ = torch.ops.longfold.evoformer_attention(q, k, v, biases, scale=scale, fully_masked=fully_masked)
    return (out, lse) if return_lse else out
