"""The inputs of a shape, and what is exact: the formula in fp64, for as many rows and queries as fit.

Output and gradients of q, k and v come from one row each, so a sample of rows is checked in full. The pair bias's
gradient is a sum over rows: a sample of queries is checked, over all rows.
"""

import torch
from torch import Tensor

from .shapes import Shape

HIDDEN = 0.1  # of the keys
SAMPLED = 1 << 28  # logits that are computed exactly, for rows and for queries
AT_ONCE = 1 << 25  # of these, 256 MiB in fp64


def make_inputs(shape: Shape, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """q, k, v and grad_out [1, N, L, H, D], mask [1, N, 1, 1, L] and pair [1, 1, H, L, L]; all but two are leaves."""
    generator = torch.Generator(device).manual_seed(1)
    rows, length = shape.num_rows, shape.length

    def randn(*sizes: int) -> Tensor:
        return torch.randn(1, *sizes, device=device, generator=generator).to(dtype)

    inputs = {name: randn(rows, length, shape.heads, shape.head_dim) for name in ("q", "k", "v", "grad_out")}
    inputs["pair"] = randn(1, shape.heads, length, length)
    hidden = torch.rand(1, rows, 1, 1, length, device=device, generator=generator) < HIDDEN
    hidden[..., 0] = False  # no row hides all keys
    mask = torch.zeros_like(hidden, dtype=torch.float32).masked_fill_(hidden, -1e9)
    inputs["mask"] = mask.to(dtype)  # -inf in fp16
    for name in ("q", "k", "v", "pair"):
        inputs[name].requires_grad_()
    return inputs


def spread(count: int, of: int) -> list[int]:
    """About as many indices, evenly over 0 .. of - 1."""
    count = max(1, min(count, of))
    return sorted({round(i * (of - 1) / max(1, count - 1)) for i in range(count)})


def samples(shape: Shape) -> tuple[list[int], list[int]]:
    """Rows n, and queries i."""
    per_row, per_query = shape.num_logits // shape.num_rows, shape.num_logits // shape.length
    return spread(SAMPLED // per_row, shape.num_rows), spread(SAMPLED // per_query, shape.length)


def weights_and_gradients(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, pair: Tensor, grad_out: Tensor):
    """softmax's result and the gradient of the logits, [n, H, i, j], of q, grad_out [n, H, i, D], k, v [n, H, j, D]."""
    weights = (q @ k.transpose(-1, -2)).mul_(q.shape[-1] ** -0.5).add_(mask).add_(pair).softmax(-1)
    grad_logits = grad_out @ v.transpose(-1, -2)
    grad_logits -= (grad_logits * weights).sum(-1, keepdim=True)
    return weights, grad_logits.mul_(weights)


@torch.no_grad()
def exact_results(inputs: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """out, q, k, v: [rows of the sample, L, H, D]; pair: [H, queries of the sample, L]."""
    rows, queries = samples(shape)
    scale = shape.head_dim**-0.5

    def chunks(indices: list[int], size: int) -> list[list[int]]:
        step = max(1, AT_ONCE // size)
        return [indices[i : i + step] for i in range(0, len(indices), step)]

    def take(name: str, n: list[int]) -> Tensor:
        x = inputs[name][0, n].double()
        return x if name == "mask" else x.transpose(1, 2)

    pair = inputs["pair"][0].double()
    parts: dict[str, list[Tensor]] = {name: [] for name in ("out", "q", "k", "v")}
    for n in chunks(rows, shape.num_logits // shape.num_rows):
        q, k, v, grad_out, mask = (take(name, n) for name in ("q", "k", "v", "grad_out", "mask"))
        weights, grad_logits = weights_and_gradients(q, k, v, mask, pair, grad_out)
        parts["out"].append(weights @ v)
        parts["q"].append(grad_logits @ k * scale)
        parts["k"].append(grad_logits.transpose(-1, -2) @ q * scale)
        parts["v"].append(weights.transpose(-1, -2) @ grad_out)
    results = {name: torch.cat(part).transpose(1, 2) for name, part in parts.items()}

    grad_pair = torch.zeros_like(pair[0, :, queries])
    for n in chunks(list(range(shape.num_rows)), shape.heads * len(queries) * shape.length):
        q, k, v, grad_out, mask = (take(name, n) for name in ("q", "k", "v", "grad_out", "mask"))
        q, grad_out = q[:, :, queries], grad_out[:, :, queries]
        grad_pair += weights_and_gradients(q, k, v, mask, pair[:, :, queries], grad_out)[1].sum(0)
    return results | {"pair": grad_pair}


@torch.no_grad()
def relative_errors(results: dict[str, Tensor], exact: dict[str, Tensor], shape: Shape) -> dict[str, float]:
    """|x - exact| / |exact|, root mean squares over the sample; NaN where the result has one."""
    rows, queries = samples(shape)
    errors = {}
    for name, value in results.items():
        got = value[0, 0, :, queries] if name == "pair" else value[0, rows]
        errors[name] = ((got.double() - exact[name]).norm() / exact[name].norm()).item()
    return errors
