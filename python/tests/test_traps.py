"""What other implementations got wrong: strides, lengths, masks, determinism, and the shapes of bias gradients."""

import pytest
import torch
from attention import Case, cotangents, eager_function, fp64, longfold_function, make_inputs, run, seeded

from longfold import evoformer_attention

pytestmark = pytest.mark.usefixtures("device")


def close(value, expected, tolerance=1e-12):
    assert value.shape == expected.shape
    scale = expected.abs().max().item()
    assert (value - expected).abs().max().item() <= tolerance * (1 + scale)


def same(results, expected):
    assert results.keys() == expected.keys()
    for name in expected:
        assert torch.equal(results[name], expected[name]), name
    assert all(value.abs().max() > 0 for value in expected.values()), "zeros are equal too"


CASE = Case("small", n=4, lq=19, lk=23, h=2, d=8)


def test_stride_zero_gradient_of_sum():
    inputs = make_inputs(CASE, torch.float32)
    leaves = {name: value.requires_grad_() for name, value in inputs.items()}
    longfold_function(leaves).sum().backward()
    same(
        {name: leaf.grad for name, leaf in leaves.items()},
        {
            name[5:]: g
            for name, g in run(longfold_function, inputs, torch.ones(CASE.shape("out"))).items()
            if name != "out"
        },
    )


STRIDES = {
    "every_second_element": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "last_dim_transposed": lambda x: x.transpose(-1, 1).contiguous().transpose(-1, 1),
    "heads_before_length": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "inside_a_larger_tensor": lambda x: torch.nn.functional.pad(x, (3, 2, 1, 1, 2, 0))[..., 2:, 1:-1, 3:-2],
}


IN_UNITS = ("contiguous", "heads_before_length")  # rows of D in whole units of 16 bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("strides", STRIDES)
def test_strides_do_not_change_bits(strides, dtype, device):
    inputs, cotangent = make_inputs(CASE, dtype), cotangents(CASE, dtype)

    def restrided(which):
        restride = STRIDES.get(which, lambda x: x)
        moved = {name: restride(value) for name, value in inputs.items()}
        assert which == "contiguous" or any(not value.is_contiguous() for value in moved.values())
        return run(longfold_function, moved, restride(cotangent))

    other = "contiguous"
    if device.type == "cuda" and dtype != torch.float32 and strides not in IN_UNITS:
        # On an H100 rows that do not lie in units take other kernels: those are compared with each other.
        other = next(which for which in STRIDES if which not in (*IN_UNITS, strides))
    same(restrided(strides), restrided(other))


@pytest.mark.parametrize("name", ["q", "k", "v", "mask", "pair"])
def test_expanded_inputs(name):
    """A stride of 0 over the batch and over the heads: the gradient has the expanded shape."""
    case = Case("expanded", b=2, n=3, lq=9, h=4, d=8)
    inputs, cotangent = make_inputs(case, torch.float32), cotangents(case, torch.float32)
    full = inputs[name]
    head_dim = {"mask": 3, "pair": 2}.get(name, 3)
    inputs[name] = full[:1].narrow(head_dim, 0, 1).expand_as(full)
    assert inputs[name].stride(0) == 0
    same(
        run(longfold_function, inputs, cotangent),
        run(longfold_function, inputs | {name: inputs[name].contiguous()}, cotangent),
    )


BIAS_SHAPES = {
    "scalar": (1,),
    "keys": (23,),
    "queries_and_keys": (19, 23),
    "heads": (2, 1, 1),
    "shared_by_the_batch": (1, 1, 2, 19, 23),
    "shared_by_the_heads": (2, 1, 1, 19, 23),
    "queries_only": (2, 1, 2, 19, 1),
    "mask_per_head": (2, 4, 2, 1, 23),
    "mask_shared_by_rows": (2, 1, 1, 1, 23),
    "nothing_but_rows": (4, 1, 1, 1),
}


@pytest.mark.parametrize("shape", BIAS_SHAPES.values(), ids=BIAS_SHAPES.keys())
def test_bias_shapes_and_their_gradients(shape):
    case = Case("general", b=2, n=4, lq=19, lk=23, h=2, d=8, biases=())
    generator = seeded(3)
    inputs = make_inputs(case, torch.float64) | {"pair": torch.randn(shape, generator=generator, dtype=torch.float64)}
    cotangent = cotangents(case, torch.float64)
    expected = run(eager_function, inputs, cotangent)
    for name, value in run(longfold_function, inputs, cotangent).items():
        close(value, expected[name])


def test_biases_of_any_number_and_the_largest_shape():
    case = Case("general", b=2, n=3, lq=5, lk=7, h=2, d=4, biases=())
    inputs = make_inputs(case, torch.float64)
    biases = [torch.randn(shape, dtype=torch.float64) for shape in [(2, 3, 2, 5, 7), (5, 7), (2, 3, 1, 1, 7), (7,)]]
    expected = eager_function(inputs | {"pair": sum(b for b in biases)})
    close(evoformer_attention(inputs["q"], inputs["k"], inputs["v"], biases), expected)


def test_equal_biases_get_gradients_of_their_own():
    """Two gradients in one memory would be added up together."""
    case = Case("equal", n=1, lq=5, h=2, d=4, biases=())
    x = make_inputs(case, torch.float32)
    biases = [torch.zeros(1, 1, 2, 5, 5, requires_grad=True) for _ in range(2)]
    for _ in range(2):
        evoformer_attention(x["q"], x["k"], x["v"], biases).backward(cotangents(case, torch.float32))
    assert biases[0].grad.data_ptr() != biases[1].grad.data_ptr()
    assert torch.equal(biases[0].grad, biases[1].grad)
    single = torch.zeros(1, 1, 2, 5, 5, requires_grad=True)
    evoformer_attention(x["q"], x["k"], x["v"], [single]).backward(cotangents(case, torch.float32))
    assert torch.equal(biases[0].grad, 2 * single.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_more_than_65535_rows(dtype):
    case = Case("rows", n=70_000, lq=2, h=1, d=4, biases=("mask",))
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    expected = run(eager_function, fp64(inputs), cotangent.double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    for name, value in run(longfold_function, inputs, cotangent).items():
        assert value[:, 65536:].abs().amax() > 0.5, name
        close(value.double(), expected[name], tolerance)


def masked_inputs(dtype, masked_value):
    """Rows 0 and 2 have every key masked, row 1 none, row 3 some."""
    case = Case("masked", n=4, lq=19, lk=23, h=2, d=8)
    inputs = make_inputs(case, dtype)
    inputs["mask"] = torch.zeros(case.shape("mask"), dtype=torch.float32)
    inputs["mask"][:, 0::2] = masked_value
    inputs["mask"][:, 3, ..., 5:] = masked_value
    return inputs, cotangents(case, dtype)


@pytest.mark.parametrize("masked_value", [-1e9, -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_fully_masked_rows_give_zero(dtype, masked_value):
    inputs, cotangent = masked_inputs(dtype, masked_value)
    results = run(longfold_function, inputs, cotangent)
    others = {name: value[:, 1::2] if name != "pair" else value for name, value in inputs.items()}
    expected = run(longfold_function, others, cotangent[:, 1::2])
    assert not any(value.isnan().any() for value in results.values())
    for name in ("out", "grad_q", "grad_k", "grad_v", "grad_mask"):
        assert (results[name][:, 0::2] == 0).all(), name
        assert torch.equal(results[name][:, 1::2], expected[name]), name
    assert torch.equal(results["grad_pair"], expected["grad_pair"])


@pytest.mark.parametrize("masked_value", [-1e9, -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_fully_masked_rows_give_the_mean(dtype, masked_value):
    inputs, cotangent = masked_inputs(dtype, masked_value)
    results = run(longfold_function, inputs, cotangent, fully_masked="mean")
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, torch.finfo(dtype).eps)

    def uniform(x):  # weights of 1 / Lk whose logits still get the gradient of softmax
        leaves = {name: x[name] for name in ("q", "k", "v", "pair")}
        logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * x["q"].shape[-1] ** -0.5
        logits = logits + leaves["pair"] + x["mask"].clamp(min=0)
        weights = (logits - logits.detach()).softmax(-1)
        return torch.einsum("bnhij,bnjhd->bnihd", weights, x["v"])

    masked = {name: value[:, 0::2] if name != "pair" else value for name, value in inputs.items()}
    expected = run(uniform, {n: t.double() for n, t in masked.items()}, cotangent[:, 0::2].double())
    close(
        results["out"][:, 0::2].double(),
        inputs["v"][:, 0::2].double().mean(2, keepdim=True).expand_as(expected["out"]),
        tolerance,
    )
    for name in ("out", "grad_q", "grad_k", "grad_v"):
        close(results[name][:, 0::2].double(), expected[name], tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_constant_bias_changes_next_to_nothing(dtype):
    """-1e4 on every logit cancels in the softmax. Adding it before the maximum goes costs an fp32 logit 5e-4."""
    inputs, cotangent = make_inputs(CASE, dtype), cotangents(CASE, dtype)
    plain = run(longfold_function, {n: t for n, t in inputs.items() if n != "mask"}, cotangent)
    constant = torch.full((1,), -1e4)
    moved = run(longfold_function, {n: t for n, t in inputs.items() if n != "mask"} | {"mask": constant}, cotangent)
    for name, value in plain.items():
        assert value.abs().max() > 0.05, f"{name} is too small for a test"
        close(moved[name].float(), value.float(), 2e-2 if dtype == torch.bfloat16 else 2e-3)


THREAD_CASES = [
    Case("several_panels", b=2, n=7, lq=70, lk=90, h=3, d=16),
    Case("a_long_sum_for_a_scalar_bias", n=512, lq=2, lk=100, h=1, d=8),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("case", THREAD_CASES, ids=lambda case: case.name)
def test_same_bits_for_any_number_of_threads(case, dtype):
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    inputs["scalar"] = torch.randn(1, dtype=dtype)

    def function(x):
        biases = [x["mask"], x["pair"], x["scalar"]]
        out, lse = evoformer_attention(x["q"], x["k"], x["v"], biases, return_lse=True)
        return out + lse.transpose(2, 3)[..., None].to(out.dtype)  # a scalar bias moves the log-sum-exp only

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = run(function, inputs, cotangent)
        for num_threads in (1, 2, 3, 2):
            torch.set_num_threads(num_threads)
            same(run(function, inputs, cotangent), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_row_does_not_depend_on_its_neighbours(dtype):
    case = Case("rows", b=2, n=9, lq=37, h=2, d=16)
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    whole = run(longfold_function, inputs, cotangent)
    for rows in (slice(0, 1), slice(3, 8)):
        part = {name: value[1:, rows] if name != "pair" else value[1:] for name, value in inputs.items()}
        results = run(longfold_function, part, cotangent[1:, rows])
        for name in ("out", "grad_q", "grad_k", "grad_v", "grad_mask"):
            assert torch.equal(results[name], whole[name][1:, rows]), name


def test_log_sum_exp_and_its_gradient():
    inputs = {name: value.requires_grad_() for name, value in make_inputs(CASE, torch.float64).items()}
    x = inputs
    logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * CASE.d**-0.5 + x["mask"] + x["pair"]
    out, lse = evoformer_attention(x["q"], x["k"], x["v"], [x["mask"], x["pair"]], return_lse=True)
    close(lse, logits.logsumexp(-1))
    cotangent = torch.randn(lse.shape, dtype=torch.float64)
    names = ("q", "k", "mask", "pair")  # v has no part in it
    expected = torch.autograd.grad(logits.logsumexp(-1), [x[n] for n in names], cotangent, retain_graph=True)
    for name, value, exact in zip(
        names, torch.autograd.grad(lse, [x[n] for n in names], cotangent), expected, strict=True
    ):
        assert exact.abs().max() > 0.01, name
        close(value, exact)
    assert (
        evoformer_attention(x["q"].float(), x["k"].float(), x["v"].float(), return_lse=True)[1].dtype == torch.float32
    )
