"""Causal attention within documents, on the CPU."""

from typing import Literal, overload

import torch
from torch import Tensor

from . import _arguments


@overload
def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    documents: Tensor | None = None,
    window: int = 0,
    scale: float | None = None,
    return_lse: Literal[False] = False,
) -> Tensor: ...
@overload
def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    documents: Tensor | None = None,
    window: int = 0,
    scale: float | None = None,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    documents: Tensor | None = None,
    window: int = 0,
    scale: float | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * q k^T) v, where a query sees itself and the keys before it in its own document.

    Neither a mask nor logits of [S, S] are ever in memory: what a call takes grows with S alone.

    Args:
        q: [B, S, H, D], float32, bfloat16, float16 or float64, on the CPU. Any strides. B and S may be 0.
        k, v: [B, S, KV heads, D], dtype of q. KV heads divide H: H / KV heads neighbouring heads of q share one.
        documents: int64, where each document begins, then B * S, as the cu_seqlens of others: token s of row b is token
            b * S + s. No document spans two rows. None: each row is one document.
        window: keys that a query sees at most, itself among them; 0: no limit.
        scale: D ** -0.5 if None.
        return_lse: also return the log-sum-exp of the logits, which has no gradient.

    Returns:
        out [B, S, H, D] in the dtype of q; with return_lse also log_sum_exp [B, H, S], float32 (float64 for float64).
        The same bits for any number of threads, run after run, and for a document whatever lies beside it. Sums are
        kept in float32 (float64).

    Raises:
        RuntimeError: "[causal_attention] expected ..., got ..." for wrong shapes, dtypes, devices or options.
        NotImplementedError: for forward-mode differentiation, for second derivatives, and on CUDA.
        TypeError: "[causal_attention] expected ..., got ..." if q, k, v or documents is not a dense tensor.

    Under torch.autocast q, k and v are cast as scaled_dot_product_attention's are.
    """
    _arguments.check_tensors("causal_attention", q=q, k=k, v=v)
    if documents is not None:
        _arguments.check_tensors("causal_attention", documents=documents)
    _arguments.check_scale("causal_attention", scale)
    out, lse = torch.ops.longfold.causal_attention(q, k, v, documents=documents, window=window, scale=scale)
    return (out, lse) if return_lse else out
