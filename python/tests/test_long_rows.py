"""Shapes at which the kernels change their way: long rows, odd sizes, part panels; and memory around the tensors.

Backward sums grad_k and grad_v of rows beyond kGradKvBytes in parts (1,024 keys at D 128, 4,096 at D 32, 8,192 at D 8),
16-bit types compute the weights of rows beyond 1,024 keys twice, and bias slabs are kept up to 8,192 keys; see
longfold/kernels/evoformer/tile_size.h.
"""

import math

import pytest
import torch
from attention import Case, cotangents, longfold_function, make_inputs, run
from test_accuracy import assert_accurate

pytestmark = pytest.mark.usefixtures("device")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]

LONG_ROWS = {
    8: (1023, 1025, 4097, 8191, 8192, 8193, 8200, 16385, 20000),
    32: (1024, 1025, 4095, 4096, 4097, 4098, 4100, 8193, 20000),
    64: (2047, 2048, 2049),
    128: (1023, 1024, 1025, 4099, 8193, 20000),
}


def long_rows():
    """By night the longest, and in float16 all but the short ones: bfloat16 goes the same way."""
    for d, lengths in LONG_ROWS.items():
        for lk in lengths:
            for dtype in DTYPES:
                slow = d * lk > 600_000 or (dtype == torch.float16 and lk > 1025)
                marks = [pytest.mark.nightly] if slow else []
                yield pytest.param(d, lk, dtype, id=f"d{d}-keys{lk}-{dtype}", marks=marks)


@pytest.mark.parametrize(("d", "lk", "dtype"), list(long_rows()))
def test_long_rows(d, lk, dtype):
    """The rule of docs/numerics. An error that grows with the number of keys breaks it here first: torch's does not."""
    assert_accurate(Case("long", n=2, lq=70, lk=lk, h=1, d=d), dtype)


@pytest.mark.parametrize("lk", [4097, 20000])
def test_log_sum_exp_of_long_rows(lk):
    """The weights are exp(logit - log_sum_exp) * lse_correction: what is wrong with these is wrong with each weight."""
    inputs = make_inputs(Case("lse", n=1, lq=70, lk=lk, h=2, d=8), torch.float32)
    x = {name: value.double() for name, value in inputs.items()}
    exact = (torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * 8**-0.5 + x["mask"] + x["pair"]).logsumexp(-1)
    _, lse, correction = torch.ops.longfold.evoformer_attention(*(inputs[n] for n in "qkv"), [x["mask"], x["pair"]])
    error = (lse.double() - correction.double().log() - exact).abs().max().item()
    # Each exponential is wrong by at most 2.4e-7 of itself and each logit by a few roundings: the sum by as much, and
    # by one rounding for each level of adding up.
    eps = torch.finfo(torch.float32).eps
    assert error < 2.4e-7 + 8 * eps + math.log2(lk) * eps, error / eps


ODD_SHAPES = [
    (lq, lk, d)
    for lq, lk in ((1, 2), (15, 5), (17, 3), (33, 63), (63, 65), (65, 127), (79, 129))
    for d in (1, 3, 7, 9, 17, 33, 65, 127)
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_odd_sizes(dtype):
    """A last key, element, lane and vector without a partner."""
    for lq, lk, d in ODD_SHAPES:
        assert_accurate(Case("odd", n=3, lq=lq, lk=lk, h=2, d=d), dtype)


# What lies beside the tensors must not be read, or not count.


def inside(value: torch.Tensor, around: float, inner_stride: int) -> torch.Tensor:
    """The same values as a view into a larger tensor, full of `around` on all sides and between elements."""
    sizes = [size + 3 for size in value.shape]
    sizes[-1] = value.shape[-1] * inner_stride + 35  # more than two vectors
    view = torch.full(sizes, around, dtype=value.dtype)
    for dim, size in enumerate(value.shape[:-1]):
        view = view.narrow(dim, 1, size)
    view = view[..., 1 : 1 + value.shape[-1] * inner_stride : inner_stride]
    view.copy_(value)
    return view


SURROUNDED = [
    Case("part_panels", b=2, n=3, lq=37, lk=53, h=2, d=5),
    Case("whole_vectors", b=1, n=2, lq=64, lk=128, h=2, d=32),
    Case("odd_pairs", b=1, n=2, lq=79, lk=67, h=1, d=33),
    Case("long_row_in_parts", b=1, n=2, lq=18, lk=1031, h=1, d=127),
    Case("one_query", b=1, n=3, lq=1, lk=33, h=2, d=8),
]


@pytest.mark.parametrize("inner_stride", [1, 2])
@pytest.mark.parametrize("around", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("case", SURROUNDED, ids=lambda case: case.name)
def test_memory_beside_the_tensors_does_not_count(case, dtype, around, inner_stride):
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)

    def results(around):
        views = {name: inside(value, around, inner_stride) for name, value in inputs.items()}
        return run(longfold_function, views, inside(cotangent, around, inner_stride))

    # A GPU may have other kernels for what lies like this: there the bits are those among zeros.
    by_itself = run(longfold_function, inputs, cotangent)
    expected = by_itself if cotangent.device.type == "cpu" else results(0.0)
    for name, value in results(around).items():
        assert torch.equal(value, expected[name]), name
        assert torch.allclose(value, by_itself[name], rtol=0.05, atol=0.05), name


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
def test_neighbouring_rows_heads_and_batches_do_not_count(dtype, poison):
    """NaN in one row of one head spoils this row of this head, and the gradients of the biases that it shares."""
    case = Case("poisoned", b=2, n=5, lq=70, lk=67, h=3, d=9)
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    expected = run(longfold_function, inputs, cotangent)
    assert all(value.isfinite().all() for value in expected.values())
    clean = torch.ones(2, 5, 1, 3, 1, dtype=torch.bool)
    clean[1, 2, :, 1] = False
    for name in ("q", "k", "v"):
        poisoned = inputs | {name: torch.where(clean, inputs[name], poison)}
        results = run(longfold_function, poisoned, cotangent)
        for output in ("out", "grad_q", "grad_k", "grad_v"):
            keep = clean.expand_as(results[output])
            assert torch.equal(results[output][keep], expected[output][keep]), (name, output)
        assert not results["out"][1, 2, :, 1].isfinite().any(), name
        keep = clean.all(3)[:, :, :, 0, None, None].expand_as(results["grad_mask"])
        assert torch.equal(results["grad_mask"][keep], expected["grad_mask"][keep]), name
        keep = clean.all(1)[:, None, 0, :, :, None].expand_as(results["grad_pair"])
        assert torch.equal(results["grad_pair"][keep], expected["grad_pair"][keep]), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_masked_key_does_not_count(dtype):
    """-inf on a key gives it the weight zero: a finite k and v there change no bit of any result."""
    case = Case("hidden", n=2, lq=20, lk=67, h=2, d=9, biases=("mask",))
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    inputs["mask"][..., 66] = -float("inf")
    expected = run(longfold_function, inputs, cotangent)
    moved = dict(inputs)
    for name in ("k", "v"):
        moved[name] = inputs[name].clone()
        moved[name][:, :, 66] = 100
    for name, value in run(longfold_function, moved, cotangent).items():
        assert torch.equal(value, expected[name]), name
