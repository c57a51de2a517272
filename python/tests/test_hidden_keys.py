"""A bias of bools hides keys: against the formula in fp64, with garbage in what it hides, to the second derivative."""

import pytest
import torch
from attention import Case, check_accuracy, cotangents, eager_function, fp64, make_inputs, run, seeded

from longfold import evoformer_attention
from longfold.deepspeed4science import DS4Sci_EvoformerAttention
from longfold.openfold import attention, evo_attention

pytestmark = pytest.mark.usefixtures("device")

CASES = [
    Case("small", b=2, n=3, lq=5, lk=7, h=2, d=8),
    Case("two_panels", n=3, lq=70, lk=150, h=2, d=32),
    Case("long_row", n=2, lq=3, lk=8300, h=1, d=4),
]
SMALL = Case("double", b=2, n=2, lq=3, lk=4, h=2, d=2)
OPS = torch.ops.longfold


def shown_keys(case: Case, all_hidden: bool = True) -> torch.Tensor:
    """[B, N, 1, 1, Lk]; key 2 is always shown, the last but in the last row, and that shows none if all_hidden."""
    shown = torch.rand(case.shape("mask"), generator=seeded(3)) < 0.6
    shown[..., 2] = True
    shown[..., -1] = False
    if all_hidden:
        shown[:, -1] = False
    return shown


def ours(shown, **options):
    def function(x):
        biases = [x["pair"], shown, *(x[name] for name in ("mask", "general") if name in x)]
        return evoformer_attention(x["q"], x["k"], x["v"], biases, **options)

    return function


def formula(shown, zero=False):
    """With constants for hidden logits; `zero` where a row shows no key."""

    def function(x):
        logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * x["q"].shape[-1] ** -0.5
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        for name in ("mask", "pair", "general"):
            logits = logits + x[name] if name in x else logits
        weights = torch.where(shown, logits, -1e9).softmax(-1)
        weights = weights * shown.any(-1, keepdim=True) if zero else weights
        return torch.einsum("bnhij,bnjhd->bnihd", weights.to(x["q"].dtype), x["v"])

    return function


@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_accuracy(case, dtype, fully_masked):
    inputs, cotangent, shown = make_inputs(case, dtype, torch.float32), cotangents(case, dtype), shown_keys(case)
    zero = fully_masked == "zero"
    got = run(ours(shown, fully_masked=fully_masked), inputs, cotangent)
    eager = run(formula(shown, zero), inputs, cotangent)
    exact = run(formula(shown, zero), fp64(inputs), cotangent.double())
    for name, value in got.items():
        floor = 1e-6 * exact[name].abs().max().item()
        check_accuracy(name, value, exact[name], eager[name], floor if dtype != torch.float64 else 1e-14)
        with pytest.raises(AssertionError):
            check_accuracy(name, torch.zeros_like(value), exact[name], eager[name], floor)


def test_all_keys_shown_is_no_mask():
    case = CASES[1]
    inputs, cotangent = make_inputs(case, torch.float32), cotangents(case, torch.float32)
    got = run(ours(torch.ones(1, dtype=torch.bool)), inputs, cotangent)
    expected = run(lambda x: evoformer_attention(x["q"], x["k"], x["v"], [x["pair"], x["mask"]]), inputs, cotangent)
    for name, value in got.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 60000.0])
@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_garbage_changes_no_bit(dtype, fully_masked, garbage):
    case = CASES[0]
    shown = shown_keys(case)
    hidden = ~shown
    clean = make_inputs(case, dtype, torch.float32)
    clean["general"] = torch.randn(case.shape("general"), generator=seeded(4))
    spoilt = {name: value.clone() for name, value in clean.items()}
    for x, value in ((clean, 0.0), (spoilt, garbage)):
        x["k"][hidden[:, :, 0, 0]] = value
        x["mask"][hidden] = value
        x["general"][hidden.expand_as(x["general"])] = value
        x["pair"][..., -1] = value  # hidden in all rows
        x["q"][:, -1] = value  # sees no key
    cotangent = cotangents(case, dtype)
    got, expected = (run(ours(shown, fully_masked=fully_masked), x, cotangent) for x in (spoilt, clean))
    for name, value in got.items():
        assert torch.equal(value, expected[name]) and value.isfinite().all() and torch.count_nonzero(value) > 0, name
    assert torch.count_nonzero(got["grad_k"][hidden[:, :, 0, 0]]) == 0
    assert torch.count_nonzero(got["grad_mask"][hidden]) == 0
    assert torch.count_nonzero(got["grad_general"][hidden.expand_as(got["grad_general"])]) == 0
    assert torch.count_nonzero(got["grad_q"][:, -1]) == 0


def test_what_an_additive_mask_and_hidden_values_do_with_nan():
    """They let it through, as the docs say: a weight of zero times NaN."""
    x = make_inputs(CASES[0], torch.float32)
    shown = shown_keys(CASES[0], all_hidden=False)
    x["mask"][...] = torch.where(shown, 0.0, -float("inf"))
    x["k"][~shown[:, :, 0, 0]] = float("nan")
    assert evoformer_attention(x["q"], x["k"], x["v"], [x["mask"]]).isnan().any()
    x = make_inputs(CASES[0], torch.float32)
    x["v"][~shown[:, :, 0, 0]] = float("nan")
    assert ours(shown)(x).isnan().any()


def test_several_bools_hide_what_any_of_them_hides():
    case = CASES[0]
    x, shown, more = make_inputs(case, torch.float32), shown_keys(case), torch.rand(case.lk) < 0.5
    got = evoformer_attention(x["q"], x["k"], x["v"], [more, x["pair"], shown])
    assert torch.equal(got, evoformer_attention(x["q"], x["k"], x["v"], [x["pair"], shown & more]))


@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
def test_derivatives_of_every_kind_of_bias(fully_masked):
    """First and second ones, of both results, batched ones too: with a bias that is the same for all keys, a row that
    shows no key, and one whose shown keys are at -1e9 themselves."""
    x = make_inputs(SMALL, torch.float64)
    shown = shown_keys(SMALL)
    with torch.no_grad():
        x["mask"].clamp_(min=-2)
    low = torch.zeros(SMALL.shape("mask"), dtype=torch.float64)
    low[1, 0] = -1e9
    shift = torch.randn(2, 1, 2, 3, 1, generator=seeded(5), dtype=torch.float64)

    def function(q, k, v, mask, pair, shift):
        return evoformer_attention(q, k, v, [mask, shown, pair, low, shift], fully_masked=fully_masked, return_lse=True)

    leaves = [value.requires_grad_() for value in (*x.values(), shift)]
    with torch.no_grad():
        assert (function(*leaves)[1] <= -5e8).sum() == 3 * SMALL.h * SMALL.lq
    exact = [*leaves[:5], shift]

    def smooth(q, k, v, mask, pair, shift):
        """The formula, with what uniform weights have as derivatives in the fully masked rows."""
        logits = torch.einsum("bnihd,bnjhd->bnhij", q, k) * q.shape[-1] ** -0.5 + mask + pair + shift
        masked = (shown.logical_not() | (low < -1)).all(-1, keepdim=True)
        moved = torch.where(masked, logits - logits.detach(), logits)
        held = torch.where(shown, moved, torch.where(masked, 0.0, -1e9))
        keep = 1.0 if fully_masked == "mean" else (~masked).double()
        out = torch.einsum("bnhij,bnjhd->bnihd", held.softmax(-1) * keep, v)
        lse = held.logsumexp(-1) if fully_masked == "mean" else held.logsumexp(-1) * keep[..., 0]
        return out, lse

    def all_derivatives(function, leaves):
        out, lse = function(*leaves)
        generator = seeded(6)
        weights = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in (out, lse)]
        first = torch.autograd.grad([out, lse], leaves, weights, create_graph=True)
        again = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in first]
        return [*first, *torch.autograd.grad(first, leaves, again)]

    for value, correct in zip(all_derivatives(function, leaves), all_derivatives(smooth, exact), strict=True):
        torch.testing.assert_close(value, correct, rtol=1e-10, atol=1e-11)
        assert torch.count_nonzero(correct) > 0


def test_second_derivatives_with_garbage():
    shown = shown_keys(SMALL)
    results = []
    for garbage in (0.0, float("nan")):
        x = make_inputs(SMALL, torch.float64)
        x["k"][~shown[:, :, 0, 0]] = garbage
        x["mask"][~shown] = garbage
        x["pair"][..., -1] = garbage
        leaves = [value.requires_grad_() for value in x.values()]
        out = ours(shown, fully_masked="mean")(x)
        first = torch.autograd.grad(out.sin().sum(), leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    for value, clean in zip(*results, strict=True):
        assert torch.equal(value, clean) and torch.count_nonzero(clean) > 0


@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_opcheck(dtype, fully_masked):
    q, k, v, mask, pair = (value.requires_grad_() for value in make_inputs(CASES[0], dtype).values())
    biases = [mask, shown_keys(CASES[0]), pair]
    options = {"fully_masked": fully_masked}
    torch.library.opcheck(OPS.evoformer_attention.default, (q, k, v, biases), options)
    detached = [value.detach() for value in (q, k, v)]
    biases = [bias.detach() for bias in biases]
    results = OPS.evoformer_attention(*detached, biases, **options)
    args = (results[0], results[1], *detached, biases, *results)
    options["bias_needs_grad"] = [True, False, True]
    torch.library.opcheck(OPS.evoformer_attention_backward.default, args, options)


def test_opcheck_of_lengths():
    lengths = torch.tensor([[3], [0], [9]])
    assert OPS.first_keys(lengths, 4).tolist() == [[True] * 3 + [False], [False] * 4, [True] * 4]
    torch.library.opcheck(OPS.first_keys.default, (lengths, 4))


def test_compile_and_vmap():
    case = CASES[0]
    x, shown = make_inputs(case, torch.float32), shown_keys(case)
    expected = ours(shown)(x)
    compiled = torch.compile(lambda x, shown: ours(shown)(x), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, shown), expected)
    several = torch.stack([shown, ~shown, shown.roll(1, 1)], 2)
    got = torch.func.vmap(lambda shown: ours(shown)(x), in_dims=2)(several)
    assert torch.equal(got, torch.stack([ours(several[:, :, i])(x) for i in range(3)]))


@pytest.mark.parametrize("call", [attention, evo_attention, DS4Sci_EvoformerAttention])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64], ids=str)
def test_the_other_names_refuse_bools(call, dtype):
    """To their callers a bias is added, and OpenFold's own function would add True as 1."""
    q = torch.randn(1, 2, 3, 3, 4)
    bias = torch.ones(1, 2, 1, 1, 3, dtype=dtype)
    with pytest.raises(TypeError, match=rf"\] expected biases\[0\].* of a floating dtype, got {dtype}"):
        call(q, q, q, [bias])


def test_eager_agrees_without_a_mask():
    """That the formula above is the one of the other tests."""
    x = make_inputs(CASES[0], torch.float64)
    assert torch.equal(formula(torch.ones(1, dtype=torch.bool))(x), eager_function(x))
