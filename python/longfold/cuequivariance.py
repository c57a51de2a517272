"""cuEquivariance's `triangle_attention`, computed by longfold: the same call, without copies.

cuEquivariance itself is not needed. Where a model imports the name from `cuequivariance_torch`, import it from here.
"""

import torch
from torch import Tensor

from . import _arguments

__all__ = ["mask_to_kv_lengths", "triangle_attention"]

_HIDDEN = -1e9  # cuEquivariance's logit of a masked key
_BLOCK_BYTES = 4 << 20  # at most so much of the logits at once, where return_aux asks for their maxima


def triangle_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    return_aux: bool = False,
    *,
    kv_lengths: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """softmax over the keys of (scale q k^T + bias where mask, else -1e9), times v.

    Source: the documentation of `cuequivariance_torch.triangle_attention` 0.8 to 0.11.

    Args:
        q: [B, N, H, Q, D], float32, bfloat16, float16 or float64; for B = 1 also [N, H, Q, D]. Any strides.
        k, v: [B, N, H, K, D], or [N, H, K, D], dtype of q.
        bias: [B, 1, H, Q, K], or [1, H, Q, K], of any floating dtype.
        mask: [B, N, 1, 1, K], or [N, 1, 1, K], bool, True for keys that count; what k and bias hold for the others does
            not matter. Another dtype is cast to bool, so an additive mask, 0 for keys that count, would hide those.
        scale: D ** -0.5 if None.
        return_aux: also return lse and max. This computes q k^T a second time, in blocks of 4 MiB.
        kv_lengths: [B, N, 1, 1, 1], or [N, 1, 1, 1], integers from 0: only the first so many keys of a row count, at
            most all. Not together with mask.

    Returns:
        out [B, N, H, Q, D] in the dtype of q, also where q has four dimensions; a transposed view of [B, N, Q, H, D].
        With return_aux also, float32 (float64 for float64) and without gradients, max [B, N, H, Q, 1], the largest
        logit, and lse [B, N, H, Q, 1], the logarithm of the sum of exp(logit - max), as cuEquivariance's JAX reference
        has them; the documentation for torch does not define the two.

    A row whose keys are all masked gives the mean of v, as the formula says, and gradients to v alone, since each logit
    is the constant -1e9. A row of length 0 gives zero, and no gradients at all.

    Raises:
        ValueError: "[triangle_attention] expected ..., got ..." for wrong shapes, options and lengths.
        TypeError: the same for what should be a tensor and is not, a bias of no floating dtype, and a scale that is no
            number.
        RuntimeError: from `evoformer_attention` for dtypes and devices.
    """
    _arguments.check_tensors("triangle_attention", q=q, k=k, v=v, bias=bias)
    _arguments.check_floating("triangle_attention", bias=bias)
    _arguments.check_scale("triangle_attention", scale)
    optional = {"mask": mask, "kv_lengths": kv_lengths}
    _arguments.check_tensors("triangle_attention", **{name: x for name, x in optional.items() if x is not None})
    given = q, k, v, bias  # no views of them, see heads_first in longfold/ops/schema.cpp
    q, k, v, bias, mask, kv_lengths = (_with_batch(q.dim() == 4, x) for x in (q, k, v, bias, mask, kv_lengths))
    if q.dim() != 5 or k.dim() != 5:
        raise ValueError(
            "[triangle_attention] expected q and k of shape [B, N, H, Q or K, D] or [N, H, Q or K, D], "
            f"got {list(q.shape)} and {list(k.shape)}"
        )
    batch, rows, heads, queries, dim = q.shape
    keys = k.shape[-2]
    for name, x in (("k", k), ("v", v)):
        _check(name, "[B, N, H, K, D]", x, (batch, rows, heads, keys, dim))
    _check("bias", "[B, 1, H, Q, K]", bias, (batch, 1, heads, queries, keys))
    if kv_lengths is not None:
        if mask is not None:
            raise ValueError("[triangle_attention] expected mask or kv_lengths, got both")
        _check("kv_lengths", "[B, N, 1, 1, 1]", kv_lengths, (batch, rows, 1, 1, 1))
        mask = torch.ops.longfold.first_keys(kv_lengths, keys)
    biases = [given[3]]
    if mask is not None:
        _check("mask", "[B, N, 1, 1, K]", mask, (batch, rows, 1, 1, keys))
        mask = mask.to(torch.bool)
        biases.insert(0, mask)
    fully_masked = "mean" if kv_lengths is None else "zero"
    out, log_sum_exp, _ = torch.ops.longfold.evoformer_attention(
        *given[:3], biases, scale=scale, fully_masked=fully_masked, heads_first=True
    )
    out = _with_batch(True, out)
    if not return_aux:
        return out
    with torch.no_grad(), torch.autocast("cuda" if q.is_cuda else "cpu", enabled=False):
        dtype = out.dtype  # that of q, or what autocast made of it
        largest = _largest_logits(q, k, dtype, bias, mask, dim**-0.5 if scale is None else scale, log_sum_exp)
        return out, log_sum_exp[..., None] - largest, largest


def mask_to_kv_lengths(mask: Tensor) -> Tensor:
    """The `kv_lengths` of a mask whose True keys come first in each row.

    Source: the documentation of `cuequivariance_torch.mask_to_kv_lengths` 0.11.

    Args:
        mask: [B, N, 1, 1, K], or [N, 1, 1, K] for B = 1; cast to bool.

    Returns:
        int32, contiguous, [B, N, 1, 1, 1]; 0 for a row without any True.

    Raises:
        ValueError: "[mask_to_kv_lengths] expected ..., got ..." for a wrong shape, or a row with a False before a True.
        TypeError: the same for what is no tensor.

    It looks at the values: call it outside of what torch.compile and torch.func.vmap see.
    """
    _arguments.check_tensors("mask_to_kv_lengths", mask=mask)
    shape = list(mask.shape)
    if mask.dim() not in (4, 5) or shape[-3:-1] != [1, 1]:
        raise ValueError(f"[mask_to_kv_lengths] expected mask of shape [B, N, 1, 1, K] or [N, 1, 1, K], got {shape}")
    mask = _with_batch(True, mask).to(torch.bool)
    late = (mask[..., 1:] & ~mask[..., :-1]).nonzero()
    if len(late) > 0:
        b, n, *_, key = late[0].tolist()
        raise ValueError(
            "[mask_to_kv_lengths] expected every row of mask to be True first and then False, "
            f"got a False before key {key + 1} of row {n} of batch {b}; pass it as mask instead"
        )
    return mask.sum(-1, keepdim=True, dtype=torch.int32)


def _with_batch(missing: bool, x: Tensor | None) -> Tensor | None:
    return x[None] if missing and x is not None and x.dim() == 4 else x


def _check(name: str, letters: str, x: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(x.shape) != expected:
        raise ValueError(
            f"[triangle_attention] expected {name} of shape {letters} = {list(expected)}, got {list(x.shape)}"
        )


def _largest_logits(
    q: Tensor, k: Tensor, dtype: torch.dtype, bias: Tensor, mask: Tensor | None, scale: float, log_sum_exp: Tensor
) -> Tensor:
    """The largest logit of each row, [B, N, H, Q, 1], in the dtype of log_sum_exp [B, N, H, Q]; of q and k in `dtype`,
    which the op computed with."""
    largest = torch.empty_like(log_sum_exp)[..., None]
    batch, rows, heads, queries, _ = q.shape
    block = max(1, _BLOCK_BYTES // max(1, heads * k.shape[-2] * largest.element_size()))
    for b in range(batch):
        for n in range(rows):
            keys = k[b, n].to(dtype).to(largest.dtype).transpose(-1, -2) * scale
            for start in range(0, queries, block):
                part = slice(start, start + block)
                logits = q[b, n, :, part].to(dtype).to(largest.dtype) @ keys + bias[b, 0, :, part]
                if mask is not None:
                    logits = torch.where(mask[b, n], logits, _HIDDEN)
                largest[b, n, :, part] = logits.amax(-1, keepdim=True)
    return largest
