"""What the tests hold longfold against: the formula in fp64, eager torch, and the accuracy rule that joins them."""

import dataclasses

import torch
from torch import Tensor

from longfold import evoformer_attention


@dataclasses.dataclass(frozen=True)
class Case:
    """One use of the op: shapes, which biases, and how the tensors lie in memory."""

    name: str
    n: int
    lq: int
    h: int
    d: int
    b: int = 1
    lk: int = 0  # 0: as lq
    biases: tuple[str, ...] = ("mask", "pair")
    bias_std: float = 1.0
    low_row: float = 0.0  # added to each logit of every third row, through the mask
    large: float = 0.0  # this, 0 or minus this is added to each logit at random, through the pair bias
    transposed: bool = False  # rows and length swapped in memory, as around the ending node

    def shape(self, name: str) -> tuple[int, ...]:
        lk = self.lk or self.lq
        return {
            "q": (self.b, self.n, self.lq, self.h, self.d),
            "k": (self.b, self.n, lk, self.h, self.d),
            "v": (self.b, self.n, lk, self.h, self.d),
            "mask": (self.b, self.n, 1, 1, lk),
            "pair": (self.b, 1, self.h, self.lq, lk),
            "general": (self.b, self.n, self.h, self.lq, lk),
            "out": (self.b, self.n, self.lq, self.h, self.d),
        }[name]


# The uses of evoformer attention, scaled down; then what kernels trip over.
CASES = [
    Case("msa_row", n=5, lq=40, h=8, d=32),
    Case("msa_column", n=40, lq=6, h=8, d=32, biases=("mask",)),
    Case("extra_msa_row", n=20, lq=24, h=8, d=8),
    Case("triangle_start", n=24, lq=24, h=4, d=32),
    Case("triangle_end", n=24, lq=24, h=4, d=32, transposed=True),
    Case("template_triangle", n=20, lq=20, h=4, d=16),
    Case("single", n=1, lq=70, h=16, d=24, biases=("pair",)),
    Case("diffusion", n=5, lq=33, h=16, d=48, biases=("pair",)),
    Case("atom", n=6, lq=32, lk=128, h=4, d=32),
    Case("no_bias", n=2, lq=9, h=2, d=8, biases=()),
    Case("batch", n=3, lq=17, h=2, d=16, b=3),
    Case("one_key", n=3, lq=5, lk=1, h=2, d=8),
    Case("one_query", n=3, lq=1, lk=37, h=2, d=8),
    Case("length_one", n=2, lq=1, h=1, d=8),
    Case("more_queries_than_keys", n=2, lq=131, lk=19, h=2, d=8),
    Case("several_panels", n=2, lq=150, lk=203, h=2, d=16),
    Case("odd_head_dim", n=2, lq=21, h=3, d=5),
    Case("head_dim_one", n=2, lq=21, h=3, d=1),
    Case("head_dim_72", n=2, lq=21, h=2, d=72),
    Case("head_dim_128", n=2, lq=21, h=2, d=128),
    Case("bias_std_20", n=4, lq=48, h=2, d=32, bias_std=20),
    Case("bias_std_50", n=4, lq=48, h=2, d=32, bias_std=50),
    Case("head_dim_128_bias_std_20", n=3, lq=48, h=2, d=128, bias_std=20),
    Case("head_dim_128_bias_std_50", n=3, lq=48, h=2, d=128, bias_std=50),
    Case("a_row_at_minus_1e4", n=4, lq=48, h=2, d=32, low_row=-1e4),
    Case("logits_of_1e4", n=4, lq=48, h=2, d=32, large=1e4),
]


def seeded(seed: int) -> torch.Generator:
    """For the device that tensors are made on (conftest.py)."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def make_inputs(
    case: Case, dtype: torch.dtype, bias_dtype: torch.dtype | None = None, seed: int = 0
) -> dict[str, Tensor]:
    generator = seeded(seed)
    inputs = {}
    for name in ("q", "k", "v", *case.biases):
        shape = case.shape(name)
        bias = name in case.biases
        if case.transposed and not bias:
            value = torch.randn(shape[0], shape[2], shape[1], *shape[3:], generator=generator).transpose(1, 2)
        elif case.transposed and name == "pair":
            value = torch.randn(shape[0], *shape[3:], shape[2], generator=generator).permute(0, 3, 2, 1)[:, None]
        else:
            value = torch.randn(shape, generator=generator)
        value = value * case.bias_std if bias else value
        if name == "mask":
            value[:, ::3] += case.low_row
        if name == "pair" and case.large:
            value += case.large * torch.randint(-1, 2, value.shape, generator=generator)
        inputs[name] = value.to((bias_dtype or dtype) if bias else dtype)  # .to keeps the strides
    if "mask" in inputs:  # a few keys masked, never all of a row
        hidden = torch.rand(inputs["mask"].shape, generator=generator) < 0.15
        hidden[..., 0] = False
        inputs["mask"][hidden] = -1e9 if inputs["mask"].dtype != torch.float16 else -float("inf")
    return inputs


def cotangents(case: Case, dtype: torch.dtype, seed: int = 1) -> Tensor:
    return torch.randn(case.shape("out"), generator=seeded(seed)).to(dtype)


def longfold_function(inputs: dict[str, Tensor], **options) -> Tensor:
    return evoformer_attention(
        inputs["q"], inputs["k"], inputs["v"], [inputs[n] for n in ("mask", "pair") if n in inputs], **options
    )


def eager_function(inputs: dict[str, Tensor], scale: float | None = None) -> Tensor:
    """As a careful model would write it: products in the dtype of q, softmax and biases in at least fp32."""
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    logits = torch.einsum("bnihd,bnjhd->bnhij", q, k) * (scale or q.shape[-1] ** -0.5)
    logits = logits.to(torch.promote_types(q.dtype, torch.float32))
    for name in ("mask", "pair"):
        if name in inputs:
            logits = logits + inputs[name].to(logits.dtype)
    return torch.einsum("bnhij,bnjhd->bnihd", logits.softmax(-1).to(q.dtype), v)


def fp64(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in inputs.items()}


def run(function, inputs: dict[str, Tensor], cotangent: Tensor, **options) -> dict[str, Tensor]:
    """The output and every gradient."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    out = function(leaves, **options)
    grads = torch.autograd.grad(out, list(leaves.values()), cotangent)
    return {"out": out.detach()} | {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}


def floors(inputs: dict[str, Tensor], cotangent: Tensor) -> dict[str, float]:
    """What one rounding of each weight and each product costs, in the type that sums are kept in: independent errors,
    so their squares add up, and no result is held to better than two standard deviations. In fp64 the formula's own
    error is of that size, hence the factor."""
    x, grad = fp64(inputs), cotangent.double()
    exact_type = inputs["q"].dtype == torch.float64
    eps = 16 * torch.finfo(torch.float64).eps if exact_type else torch.finfo(torch.float32).eps
    logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * x["q"].shape[-1] ** -0.5
    for name in ("mask", "pair"):
        if name in x:
            logits = logits + x[name]
    p = logits.softmax(-1)
    p_variance = p.square() * eps**2
    grad_p = torch.einsum("bnihd,bnjhd->bnhij", grad.square(), x["v"].square())
    delta = (p.square() * grad_p).sum(-1, keepdim=True)
    ds_variance = p_variance * (grad_p + delta)
    scale = 1 / x["q"].shape[-1]
    variances = {
        "out": eps**2 * torch.einsum("bnhij,bnjhd->bnihd", p.square(), x["v"].square()),
        "grad_q": scale * torch.einsum("bnhij,bnjhd->bnihd", ds_variance, x["k"].square()),
        "grad_k": scale * torch.einsum("bnhij,bnihd->bnjhd", ds_variance, x["q"].square()),
        "grad_v": torch.einsum("bnhij,bnihd->bnjhd", p_variance, grad.square()),
        "grad_mask": ds_variance.sum((2, 3)),
        "grad_pair": ds_variance.sum(1),
    }
    return {name: 2 * variance.max().sqrt().item() for name, variance in variances.items()}


def check_accuracy(name: str, value: Tensor, exact: Tensor, eager: Tensor, floor: float) -> None:
    """The accuracy rule: at most twice the error of eager torch in the same dtype, beyond the floor and what rounding
    the exact result to that dtype costs; for the largest error and for the root mean square."""
    assert value.shape == exact.shape and value.dtype == eager.dtype, name
    error, allowed = (value.double() - exact).abs(), (eager.double() - exact).abs()
    rounding = (exact.to(value.dtype).double() - exact).abs()
    assert not error.isnan().any(), f"{name}: NaN"
    for kind, measure in (("largest", torch.amax), ("rms", lambda x: x.square().mean().sqrt())):
        got, bound = measure(error).item(), (2 * measure(allowed) + measure(rounding)).item() + floor
        assert got <= bound, f"{name}: {kind} error {got:.3g}, allowed {bound:.3g}"
