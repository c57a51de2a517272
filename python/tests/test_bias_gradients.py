"""Gradients of every bias that asks, whatever it broadcasts over, also several at once; and what they cost."""

import pytest
import torch
from attention import Case, check_accuracy, cotangents, fp64, make_inputs, run, seeded
from test_memory import run_python

from longfold import evoformer_attention

pytestmark = pytest.mark.usefixtures("device")

B, N, H, LQ, LK = 2, 5, 3, 19, 23
CASE = Case("biases", b=B, n=N, lq=LQ, lk=LK, h=H, d=8, biases=())

VARY_OVER_ROWS_AND_QUERIES = {
    "everything": (B, N, H, LQ, LK),
    "shared_by_heads": (B, N, 1, LQ, LK),
    "shared_by_batch": (1, N, H, LQ, LK),
    "shared_by_both": (1, N, 1, LQ, LK),
    "no_batch": (N, H, LQ, LK),
}
SHARED_BY_ALL_KEYS = {
    "rows_and_queries": (N, 1, LQ, 1),
    "all_but_keys": (B, N, H, LQ, 1),
    "queries": (LQ, 1),
    "heads": (H, 1, 1),
    "rows": (N, 1, 1, 1),
    "scalar": (),
}
OTHERS = {"queries_and_keys": (LQ, LK), "keys_of_rows": (N, 1, 1, LK), "pair": (B, 1, H, LQ, LK), "keys": (LK,)}
SHAPES = VARY_OVER_ROWS_AND_QUERIES | SHARED_BY_ALL_KEYS | OTHERS


def inputs_with(shapes, dtype, bias_dtype=None, case=CASE):
    generator = seeded(5)
    biases = {f"bias_{i}": torch.randn(shape, generator=generator) for i, shape in enumerate(shapes)}
    return make_inputs(case, dtype) | {name: bias.to(bias_dtype or dtype) for name, bias in biases.items()}


def ours(x, fully_masked="zero"):
    biases = [value for name, value in x.items() if name.startswith("bias")]
    out, lse = evoformer_attention(x["q"], x["k"], x["v"], biases, fully_masked=fully_masked, return_lse=True)
    return both(out, lse)


def both(out, lse):
    """One tensor that the gradients of both results flow through."""
    return out + lse.transpose(2, 3)[..., None].to(out.dtype)


def eager(x):
    logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * x["q"].shape[-1] ** -0.5
    logits = logits.to(torch.promote_types(x["q"].dtype, torch.float32))
    for name, value in x.items():
        logits = logits + value.to(logits.dtype) if name.startswith("bias") else logits
    return both(torch.einsum("bnhij,bnjhd->bnihd", logits.softmax(-1).to(x["q"].dtype), x["v"]), logits.logsumexp(-1))


def logit_rounding(x, cotangent):
    """[B, N, H, Lq, Lk]: the variance of a logit gradient each of whose factors was rounded once."""
    x, grad = fp64(x), cotangent.double()
    eps = torch.finfo(torch.float32).eps
    logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * x["q"].shape[-1] ** -0.5
    for name, value in x.items():
        logits = logits + value if name.startswith("bias") else logits
    grad_p = torch.einsum("bnihd,bnjhd->bnhij", grad.square(), x["v"].square())
    p = logits.softmax(-1)
    return eps**2 * p.square() * (grad_p + (p.square() * grad_p).sum(-1, keepdim=True))


@pytest.mark.parametrize("dtype, bias_dtype", [("float32", "float32"), ("bfloat16", "float32"), ("float16", "float16")])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_accuracy(shape, dtype, bias_dtype):
    x = inputs_with([shape], getattr(torch, dtype), getattr(torch, bias_dtype))
    cotangent = cotangents(CASE, getattr(torch, dtype))
    got, plain = run(ours, x, cotangent), run(eager, x, cotangent)
    exact = run(eager, fp64(x), cotangent.double())["grad_bias_0"]
    assert exact.abs().max() > 0.1, "too small for a test"
    floor = 2 * logit_rounding(x, cotangent).sum_to_size(shape).max().sqrt().item()
    check_accuracy("grad_bias", got["grad_bias_0"], exact, plain["grad_bias_0"], floor)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_fp64(shape):
    x, cotangent = inputs_with([shape], torch.float64), cotangents(CASE, torch.float64)
    expected = run(eager, x, cotangent)
    for name, value in run(ours, x, cotangent).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-11, atol=1e-11, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_all_at_once_are_each_as_alone(dtype):
    x, cotangent = inputs_with(SHAPES.values(), dtype), cotangents(CASE, dtype)
    everything = run(ours, x, cotangent)
    for index, shape in enumerate(SHAPES.values()):
        name = f"bias_{index}"
        fixed = {other: value for other, value in x.items() if other != name}
        alone = run(lambda leaf, name=name, fixed=fixed: ours(in_order(fixed | leaf)), {name: x[name]}, cotangent)
        # A pair bias is summed over groups of rows, whose number depends on how many heads a call has.
        tolerance = 0 if shape not in OTHERS.values() else 1e-5
        value, expected = everything[f"grad_{name}"], alone[f"grad_{name}"]
        assert expected.abs().max() > 0.1 and value.shape == shape, shape
        assert (value.double() - expected.double()).abs().max() <= tolerance * expected.abs().max(), shape


def in_order(x):
    return dict(sorted(x.items(), key=lambda item: (len(item[0]), item[0])))


def test_gradcheck():
    case = Case("gradcheck", b=2, n=2, lq=3, lk=2, h=2, d=2, biases=())
    shapes = [(2, 2, 2, 3, 2), (2, 2, 1, 3, 2), (1, 2, 2, 3, 2), (2, 1, 3, 1), (3, 2), (2, 1, 1)]
    x = inputs_with(shapes, torch.float64, case=case)

    def function(*values):
        return evoformer_attention(*values[:3], values[3:], scale=0.7, return_lse=True)

    assert torch.autograd.gradcheck(function, [value.requires_grad_() for value in x.values()])


THREAD_CASES = [Case("small", b=2, n=3, lq=70, lk=90, h=3, d=16, biases=())]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("case", THREAD_CASES, ids=lambda case: case.name)
def test_same_bits_for_any_number_of_threads(case, dtype):
    b, n, h, lq, lk = case.b, case.n, case.h, case.lq, case.lk
    shapes = [(b, n, h, lq, lk), (b, n, 1, lq, lk), (1, n, h, lq, lk), (1, n, 1, lq, lk), (n, 1, lq, 1), (lq, lk), ()]
    x, cotangent = inputs_with(shapes, dtype, case=case), cotangents(case, dtype)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = run(ours, x, cotangent)
        for num_threads in (2, 3):
            torch.set_num_threads(num_threads)
            for name, value in run(ours, x, cotangent).items():
                assert torch.equal(value, expected[name]), name
                assert value.abs().max() > 0, name
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("masked_value", [-1e9, -float("inf")])
@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
def test_fully_masked_rows(fully_masked, masked_value):
    """Queries 3 and 4 of row 1 see no key. Without weights nothing flows; uniform weights pass on what they get."""
    shapes = [(B, N, H, LQ, LK), (B, N, H, LQ, 1)]
    x, cotangent = inputs_with(shapes, torch.float64), cotangents(CASE, torch.float64)
    x["bias_0"][:, 1, :, 3:5] = masked_value
    got = run(lambda leaves: ours(leaves, fully_masked=fully_masked), x, cotangent)
    full, keys = got["grad_bias_0"], got["grad_bias_1"]
    assert not full.isnan().any() and not keys.isnan().any()
    torch.testing.assert_close(full.sum(-1, keepdim=True), keys, rtol=0, atol=1e-12)
    assert (full[:, 1, :, 3:5] == 0).all() == (fully_masked == "zero")
    assert (keys[:, 1, :, 3:5] == 0).all() == (fully_masked == "zero")
    assert full[:, 1, :, 5:].abs().max() > 0.1


def test_a_shift_of_all_keys_changes_nothing_without_log_sum_exp():
    x = inputs_with([(N, 1, LQ, 1)], torch.float32)
    bias = x["bias_0"].requires_grad_()
    out = evoformer_attention(x["q"], x["k"], x["v"], [bias])
    (grad,) = torch.autograd.grad(out, bias, cotangents(CASE, torch.float32))
    assert (grad == 0).all() and grad.shape == bias.shape


def test_equal_biases_get_gradients_of_their_own():
    x = inputs_with([(B, N, H, LQ, LK)] * 2 + [(B, N, H, LQ, 1)] * 2, torch.float32)
    leaves = {name: value.requires_grad_() for name, value in x.items()}
    for _ in range(2):
        ours(leaves).backward(cotangents(CASE, torch.float32))
    for first, second in (("bias_0", "bias_1"), ("bias_2", "bias_3")):
        assert leaves[first].grad.data_ptr() != leaves[second].grad.data_ptr()
        assert torch.equal(leaves[first].grad, leaves[second].grad)


@pytest.mark.parametrize("shape", ["(B, N, H, L, L)", "(B, N, 1, L, L)"])
@pytest.mark.cpu_only
def test_nothing_as_large_as_the_logits_but_the_gradient(shape):
    run_python(f"""
B, N, L, H, D = 1, 16, 256, 8, 16
q, k, v = (torch.randn(B, N, L, H, D, requires_grad=True) for _ in range(3))
bias = torch.randn({shape}, requires_grad=True)
out = evoformer_attention(q, k, v, [bias])
grad = torch.randn_like(out)
with MemoryMeter() as meter:
    out.backward(grad)
allowed = size(q, k, v, bias) + B * N * H * L * 4 + 2 * 4 * MIB
assert meter.extra_peak <= allowed, (meter.extra_peak / MIB, allowed / MIB)
assert allowed < size(q, k, v, bias) + B * N * H * L * L * 4
""")


@pytest.mark.parametrize("shape", ["(1, 1, H, L, L)", "(L, L)"])
@pytest.mark.cpu_only
def test_a_pair_bias_that_batches_share_has_one_gradient(shape):
    """Neither a gradient nor a partial copy of it for each batch."""
    run_python(f"""
B, N, L, H, D = 32, 1, 128, 4, 8
q, k, v = (torch.randn(B, N, L, H, D, requires_grad=True) for _ in range(3))
bias = torch.randn({shape}, requires_grad=True)
out = evoformer_attention(q, k, v, [bias])
grad = torch.randn_like(out)
with MemoryMeter() as meter:
    out.backward(grad)
allowed = size(q, k, v) + 9 * H * L * L * 4 + 2 * 4 * MIB
assert meter.extra_peak <= allowed, (meter.extra_peak / MIB, allowed / MIB)
assert allowed < size(q, k, v) + B * H * L * L * 4 + 2 * 4 * MIB
""")
