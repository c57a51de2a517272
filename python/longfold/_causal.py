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
    first_query: int = 0,
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
    first_query: int = 0,
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
    first_query: int = 0,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * q k^T) v, where a query sees itself and the keys before it in its own document.

    Neither a mask nor logits of [Sq, Sk] are ever in memory: what a call takes grows with Sq and Sk alone.
    Mostly Sq = Sk = S tokens, each a query and a key; with first_query the queries are another part of a sequence.

    Args:
        q: [B, Sq, H, D], float32, bfloat16, float16 or float64, on the CPU. Any strides. B and Sq may be 0.
        k, v: [B, Sk, KV heads, D], dtype of q. KV heads divide H: H / KV heads neighbouring heads of q share one.
        documents: int64, where each document begins, then B * S, as the cu_seqlens of others: token s of row b is token
            b * S + s. No document spans two rows. None: each row is one document.
        window: keys that a query sees at most, itself among them; 0: no limit.
        scale: D ** -0.5 if None.
        first_query: place of the first query among the keys: query s sees keys 0 to min(first_query + s, Sk - 1). From
            Sk - 1 on, every query sees all keys. Where it is not 0, or Sq is not Sk, each row is one document and there
            is no window.
        return_lse: also return the log-sum-exp of the logits, which has no gradient.

    Returns:
        out [B, Sq, H, D] in the dtype of q; with return_lse also log_sum_exp [B, H, Sq], float32 (float64 for float64).
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
    out, lse = torch.ops.longfold.causal_attention(
        q, k, v, documents=documents, window=window, scale=scale, first_query=first_query
    )
    return (out, lse) if return_lse else out
