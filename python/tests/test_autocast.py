"""Under autocast q, k and v are cast as scaled_dot_product_attention's are; biases are not."""

import pytest
import torch
from attention import Case, cotangents, longfold_function, make_inputs, run
from torch.nn.functional import scaled_dot_product_attention

from longfold import evoformer_attention

pytestmark = pytest.mark.usefixtures("device")


def autocast(**options):
    return torch.autocast(torch.get_default_device().type, **options)


CASE = Case("autocast", n=3, lq=17, lk=23, h=2, d=8)
LOW = [torch.bfloat16, torch.float16]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def outcome(function):
    """The dtype that comes out, or that nothing does."""
    try:
        return function().dtype
    except RuntimeError:
        return "refused"


@pytest.mark.parametrize("low", LOW, ids=str)
@pytest.mark.parametrize("v_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_are_those_of_scaled_dot_product_attention(dtype, v_dtype, low):
    x = make_inputs(CASE, dtype)
    x["v"] = x["v"].to(v_dtype)
    with autocast(dtype=low):
        got = outcome(lambda: evoformer_attention(x["q"], x["k"], x["v"]))
        heads = [x[name].transpose(2, 3) for name in ("q", "k", "v")]
        assert got == outcome(lambda: scaled_dot_product_attention(*heads))


@pytest.mark.parametrize("low", LOW, ids=str)
def test_values_are_those_of_the_explicit_cast(low):
    x, cotangent = make_inputs(CASE, torch.float32), cotangents(CASE, low)

    def automatic(leaves):
        with autocast(dtype=low):
            return longfold_function(leaves)

    def explicit(leaves):
        return longfold_function({n: t.to(low) if n in ("q", "k", "v") else t for n, t in leaves.items()})

    results, expected = run(automatic, x, cotangent), run(explicit, x, cotangent)
    rounded = run(lambda leaves: longfold_function({n: t.to(low) for n, t in leaves.items()}), x, cotangent)
    assert results["out"].dtype == low
    for name, value in results.items():
        assert torch.equal(value, expected[name]), name
        assert name == "out" or value.dtype == torch.float32, name
    assert not torch.equal(rounded["out"], results["out"]), "a rounded bias would show"


def test_mixed_inputs_meet_in_the_dtype_of_autocast():
    """As after a layer norm, which autocast leaves in fp32, beside a linear layer, which it does not."""
    x = make_inputs(CASE, torch.float32)
    with autocast(dtype=torch.bfloat16):
        mixed = evoformer_attention(x["q"].bfloat16(), x["k"], x["v"], [x["mask"], x["pair"].bfloat16()])
    low = [x[name].bfloat16() for name in ("q", "k", "v")]
    assert torch.equal(mixed, evoformer_attention(*low, [x["mask"], x["pair"].bfloat16()]))


def test_float64_stays():
    x = make_inputs(CASE, torch.float64)
    with autocast(dtype=torch.bfloat16):
        assert torch.equal(longfold_function(x), longfold_function(make_inputs(CASE, torch.float64)))


def test_log_sum_exp_stays_float32():
    x = make_inputs(CASE, torch.float32)
    with autocast(dtype=torch.bfloat16):
        _, lse = evoformer_attention(x["q"], x["k"], x["v"], return_lse=True)
    assert lse.dtype == torch.float32


def test_switched_off_inside():
    x = make_inputs(CASE, torch.float32)
    with autocast(dtype=torch.bfloat16), autocast(enabled=False):
        assert torch.equal(longfold_function(x), longfold_function(make_inputs(CASE, torch.float32)))


def test_backward_inside_is_backward_outside():
    x, cotangent = make_inputs(CASE, torch.float32), cotangents(CASE, torch.bfloat16)

    def gradients(inside):
        leaves = {name: value.detach().requires_grad_() for name, value in x.items()}
        with autocast(dtype=torch.bfloat16):
            out = longfold_function(leaves)
            if inside:
                out.backward(cotangent)
        if not inside:
            out.backward(cotangent)
        return [leaf.grad for leaf in leaves.values()]

    for value, expected in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(value, expected) and value.dtype == torch.float32


def test_compiled():
    device_type = torch.get_default_device().type

    def step(x):
        with torch.autocast(device_type, dtype=torch.bfloat16):
            return longfold_function(x)

    x, cotangent = make_inputs(CASE, torch.float32), cotangents(CASE, torch.bfloat16)
    expected = run(step, x, cotangent)
    for name, value in run(torch.compile(step, fullgraph=True), x, cotangent).items():
        assert torch.equal(value, expected[name]), name
