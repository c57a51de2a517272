"""OpenFold's attention calls, computed by longfold: the same arguments and results, without copies.

OpenFold itself is not needed. To use them in it, before the model runs:

    openfold.model.primitives._attention = longfold.openfold.attention
    openfold.model.primitives._deepspeed_evo_attn = longfold.openfold.evo_attention
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _arguments, evoformer_attention

__all__ = ["attention", "evo_attention"]


def attention(query: Tensor, key: Tensor, value: Tensor, biases: Sequence[Tensor | None] = ()) -> Tensor:
    """softmax(query key^T + sum of biases) value, as `_attention` of openfold/model/primitives.py: query is scaled.

    Args:
        query: [*, H, Q, D], already multiplied by D ** -0.5; float32, bfloat16, float16 or float64. Any strides.
        key, value: [*, H, K, D], dtype of query. Leading dimensions * broadcast, as in matmul.
        biases: any number, each broadcasts to [*, H, Q, K], of any floating dtype; None stands for none. The list is
            not changed.

    Returns:
        [*, H, Q, D] in the dtype of query, a transposed view of [*, Q, H, D].

    Up to two leading dimensions are the [B, N] of `evoformer_attention`. More, and those that broadcast in q, k or v,
    are folded into these as views. Where strides or biases allow no such view, the first of them becomes a loop, whose
    results are joined: that copies the output, nothing else.

    A row whose keys are all masked (largest logit at most -5e8) gives the mean of value, with the gradients of uniform
    weights, as OpenFold's finite mask of -1e9 does in float32.

    Raises:
        ValueError: "[openfold.attention] expected ..., got ..." for wrong shapes.
        TypeError: the same for what should be a tensor and is not, and for a bias of no floating dtype.
        RuntimeError: from `evoformer_attention` for dtypes and devices.
    """
    return _attend("openfold.attention", query, key, value, biases, scale=1.0)


def evo_attention(q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor | None] = ()) -> Tensor:
    """softmax(q k^T / sqrt(D) + sum of biases) v, as `_deepspeed_evo_attn` of openfold/model/primitives.py.

    Unlike OpenFold's function, which rounds float32 to bfloat16 on the way, it computes in the dtype of q (under
    torch.autocast in autocast's).

    Args:
        q: [*, H, Q, D], not scaled; float32, bfloat16, float16 or float64. Any strides.
        k, v: [*, H, K, D], dtype of q. Leading dimensions * broadcast, as in matmul, and may be of any number.
        biases: any number, each broadcasts to [*, H, Q, K], of any floating dtype; None stands for none. The list is
            not changed.

    Returns:
        [*, Q, H, D] in the dtype of q, contiguous.

    Folding, and rows whose keys are all masked, as in `attention` above.

    Raises:
        ValueError: "[openfold.evo_attention] expected ..., got ..." for wrong shapes.
        TypeError: the same for what should be a tensor and is not, and for a bias of no floating dtype.
        RuntimeError: from `evoformer_attention` for dtypes and devices.
    """
    return _attend("openfold.evo_attention", q, k, v, biases, scale=None).transpose(-2, -3)


def _attend(op: str, q: Tensor, k: Tensor, v: Tensor, biases: Sequence[Tensor | None], scale: float | None) -> Tensor:
    """[*, H, Q, D] from q [*, H, Q, D], k and v [*, H, K, D]; a transposed view of [*, Q, H, D]."""
    _arguments.check_tensors(op, q=q, k=k, v=v)
    biases = _arguments.listed(op, biases, may_be_none=True)
    shapes = [list(x.shape) for x in (q, k, v)]
    if min(map(len, shapes)) < 3 or len({shape[-1] for shape in shapes}) > 1 or shapes[1][-2] != shapes[2][-2]:
        raise ValueError(
            f"[{op}] expected q of shape [*, H, Q, D] and k, v of shape [*, H, K, D], got {', '.join(map(str, shapes))}"
        )
    try:
        rows = torch.broadcast_shapes(*(shape[:-2] for shape in shapes))
    except RuntimeError as error:
        raise ValueError(
            f"[{op}] expected the [*, H] of q, k and v to broadcast, got {', '.join(str(s[:-2]) for s in shapes)}"
        ) from error
    logits = (*rows, q.shape[-2], k.shape[-2])
    present = []
    for i, bias in enumerate(biases):
        if bias is None:
            continue
        _arguments.check_floating(op, **{f"biases[{i}]": bias})
        padded = (1,) * (len(logits) - bias.dim()) + tuple(bias.shape)
        if len(padded) != len(logits) or any(a not in (1, b) for a, b in zip(padded, logits, strict=True)):
            raise ValueError(
                f"[{op}] expected biases[{i}] to broadcast to [*, H, Q, K] = {list(logits)}, got {list(bias.shape)}"
            )
        present.append(bias)
    if len(rows) <= 3 and all(shape[:-2] == list(rows) for shape in shapes):
        # No views of the caller's tensors nor of the result, see heads_first in longfold/ops/schema.cpp.
        out, *_ = torch.ops.longfold.evoformer_attention(
            q, k, v, present, scale=scale, fully_masked="mean", heads_first=True
        )
        return out
    present = [bias[(None,) * (len(logits) - bias.dim())] for bias in present]
    q, k, v = (x.expand(*rows, *x.shape[-2:]).transpose(-2, -3) for x in (q, k, v))
    return _fold(q, k, v, present, scale, tuple(rows[:-1])).transpose(-2, -3)


def _fold(q: Tensor, k: Tensor, v: Tensor, biases: list[Tensor], scale: float | None, lead: tuple[int, ...]) -> Tensor:
    """[*, Q, H, D] from q [*, Q, H, D] and k, v [*, K, H, D], where * is `lead`; biases have a 1 where they broadcast.

    The most rows share a bias, hence the work of reading it, if as few leading dimensions as possible go to B."""
    for split in range(len(lead) + 1):
        folded = [_folded(x, lead, split) for x in (q, k, v, *biases)]
        if all(x is not None for x in folded):
            out = evoformer_attention(*folded[:3], folded[3:], scale=scale, fully_masked="mean")
            return out.view(*lead, *out.shape[2:])
    parts = []
    for i in range(lead[0]):
        part = [bias[i if bias.shape[0] > 1 else 0] for bias in biases]
        parts.append(_fold(q[i], k[i], v[i], part, scale, lead[1:]))
    return torch.stack(parts)


def _folded(x: Tensor, lead: tuple[int, ...], split: int) -> Tensor | None:
    """x with its leading dimensions as [B, N], the first `split` of them in B; None if that is no view of x."""
    num_lead = len(lead)
    sizes = []
    for first, last in ((0, split), (split, num_lead)):
        if any(size != 1 for size in x.shape[first:last]):
            x = x.expand(*x.shape[:first], *lead[first:last], *x.shape[last:])
        strides = [(x.shape[d], x.stride(d)) for d in range(first, last) if x.shape[d] != 1]
        breaks = [outer[1] != inner[0] * inner[1] for outer, inner in zip(strides, strides[1:], strict=False)]
        if any(breaks) and x.numel() > 0:
            return None
        count = 1
        for size in x.shape[first:last]:
            count *= size
        sizes.append(count)
    return x.view(*sizes, *x.shape[num_lead:])
