"""Who is measured: one function (q, k, v, mask, pair) -> out for each, from the layout [B, N, L, H, D] of them all.

Copies that a contender needs from this layout are part of its time.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    label: str
    module: str  # that must be there
    packages: tuple[str, ...]  # whose versions the page names
    make: Callable[[], Callable]  # in the worker, anew for each shape

    def missing(self) -> str:
        """Empty where it is installed."""
        return "" if importlib.util.find_spec(self.module) else f"not installed (no Python module {self.module})"

    def versions(self) -> dict[str, str]:
        found = {}
        for package in self.packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found


def heads_first(x):
    """[B, N, L, H, D] <-> [B, N, H, L, D]: a view."""
    return x.transpose(2, 3)


def longfold():
    from longfold import evoformer_attention

    return lambda q, k, v, mask, pair: evoformer_attention(q, k, v, [mask, pair])


def eager():
    def attention(q, k, v, mask, pair):
        logits = heads_first(q) @ heads_first(k).transpose(-1, -2) * q.shape[-1] ** -0.5
        return heads_first((logits + mask + pair).softmax(-1) @ heads_first(v))

    return attention


def sdpa():
    """Takes one bias, so that mask and pair are added up for every row."""
    from torch.nn.functional import scaled_dot_product_attention

    def attention(q, k, v, mask, pair):
        q, k, v = (heads_first(x)[0] for x in (q, k, v))
        return heads_first(scaled_dot_product_attention(q, k, v, attn_mask=(mask + pair)[0])[None])

    return attention


def flex():
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)

    def attention(q, k, v, mask, pair):
        key_bias, pair_bias = mask[0, :, 0, 0], pair[0, 0]
        q, k, v = (heads_first(x)[0] for x in (q, k, v))
        out = compiled(q, k, v, score_mod=lambda s, n, h, i, j: s + key_bias[n, j] + pair_bias[h, i, j])
        return heads_first(out[None])

    return attention


def trifast():
    from trifast import triangle_attention

    def attention(q, k, v, mask, pair):
        q, k, v = (heads_first(x).transpose(1, 2).contiguous() for x in (q, k, v))  # [B, H, N, L, D]
        out = triangle_attention(q, k, v, pair[:, 0], (mask < -1)[:, :, 0, 0])
        return heads_first(out.transpose(1, 2))

    return attention


def cuequivariance():
    from cuequivariance_torch import triangle_attention

    def attention(q, k, v, mask, pair):
        scale = q.shape[-1] ** -0.5
        q, k, v = (heads_first(x) for x in (q, k, v))
        return heads_first(triangle_attention(q, k, v, pair, mask=mask > -1, scale=scale))

    return attention


def deepspeed():
    from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention

    return lambda q, k, v, mask, pair: DS4Sci_EvoformerAttention(q, k, v, [mask, pair])


CUEQUIVARIANCE = ("cuequivariance-torch", "cuequivariance-ops-torch-cu13", "cuequivariance-ops-torch-cu12")
CONTENDERS = [
    Contender("longfold", "longfold", "longfold", (), longfold),
    Contender("eager", "eager", "torch", (), eager),
    Contender("sdpa", "SDPA", "torch", (), sdpa),
    Contender("flex", "FlexAttention", "torch", ("triton",), flex),
    Contender("trifast", "trifast", "trifast", ("trifast",), trifast),
    Contender("cuequivariance", "cuEquivariance", "cuequivariance_torch", CUEQUIVARIANCE, cuequivariance),
    Contender("deepspeed", "DeepSpeed", "deepspeed", ("deepspeed",), deepspeed),
]
NAMES = [contender.name for contender in CONTENDERS]
OF_TORCH = ("eager", "sdpa", "flex")  # what errors are held against


def custom(text: str) -> Contender:
    """NAME=MODULE:FUNCTION, a kernel of the user's own."""
    name, _, path = text.partition("=")
    module, _, function = path.partition(":")
    if not (name and module and function):
        raise ValueError(f"expected NAME=MODULE:FUNCTION in --contenders, got {text!r}")
    return Contender(name, name, module, (), lambda: getattr(importlib.import_module(module), function))


def named(names: list[str]) -> list[Contender]:
    """These, in the order of the list, then the user's own; all known ones if none is named."""
    for name in names:
        if "=" not in name and name not in NAMES:
            raise ValueError(f"expected --contenders among {', '.join(NAMES)} or NAME=MODULE:FUNCTION, got {name!r}")
    return [c for c in CONTENDERS if not names or c.name in names] + [custom(name) for name in names if "=" in name]
