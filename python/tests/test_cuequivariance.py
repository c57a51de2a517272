"""cuEquivariance's triangle_attention, against the formula of its documentation in fp64; no large input is copied."""

import inspect

import pytest
import torch
from attention import seeded
from test_memory import run_python

from longfold.cuequivariance import triangle_attention

pytestmark = pytest.mark.usefixtures("device")

B, N, H, Q, K, D = 2, 3, 2, 5, 7, 8


def formula(q, k, v, bias, mask=None, scale=None):
    """As documented: out, and the largest logit with the logarithm of the sum of exp(logit - largest)."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    logits = scale * torch.einsum("bnhqd,bnhkd->bnhqk", q, k) + bias
    if mask is not None:
        logits = torch.where(mask.bool(), logits, -1e9)
    largest = logits.amax(-1, keepdim=True)
    lse = (logits - largest).logsumexp(-1, keepdim=True)
    return torch.einsum("bnhqk,bnhkd->bnhqd", logits.softmax(-1), v), lse, largest


def inputs(dtype=torch.float64, seed=0, batch=B):
    generator = seeded(seed)
    shapes = [(batch, N, H, Q, D), (batch, N, H, K, D), (batch, N, H, K, D), (batch, 1, H, Q, K)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def some_mask(batch=B):
    mask = torch.rand(batch, N, 1, 1, K, generator=seeded(1)) < 0.5
    mask[..., 2] = True  # never all of a row
    assert not mask.all()
    return mask


def results(call, tensors, *args, **options):
    leaves = [x.detach().requires_grad_() for x in tensors]
    out = call(*leaves, *args, **options)
    out = out[0] if isinstance(out, tuple) else out
    grad = torch.randn(out.shape, generator=seeded(2), dtype=torch.float64)
    return [out, *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


def check(got, expected, tolerance=1e-12):
    for value, correct in zip(got, expected, strict=True):
        assert value.shape == correct.shape and correct.abs().max() > 0.01
        assert (value - correct).abs().max() <= tolerance * correct.abs().max()


@pytest.mark.cpu_only
def test_signature():
    """Positions, names and defaults of cuequivariance_torch.triangle_attention."""
    parameters = inspect.signature(triangle_attention).parameters
    assert list(parameters) == ["q", "k", "v", "bias", "mask", "scale", "return_aux", "kv_lengths"]
    assert [p.default for p in parameters.values()][4:] == [None, None, False, None]
    assert parameters["kv_lengths"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("masked", [False, True])
def test_formula_and_gradients(masked, scale):
    mask = some_mask() if masked else None
    check(results(triangle_attention, inputs(), mask, scale), results(formula, inputs(), mask, scale))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dtypes(dtype):
    """out has the dtype of q, each gradient that of its input; the documentation's bias is float32 or that of q."""
    for bias_dtype in (torch.float32, dtype):
        q, k, v, bias = inputs(dtype)
        tensors = [q, k, v, bias.to(bias_dtype)]
        got = results(triangle_attention, tensors, some_mask())
        assert [x.dtype for x in got] == [dtype, dtype, dtype, dtype, bias_dtype]
        expected = results(formula, [x.double() for x in tensors], some_mask())
        check(got, expected, 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8], ids=str)
def test_a_mask_of_another_dtype_is_cast_to_bool(dtype):
    got = triangle_attention(*inputs(), some_mask().to(dtype))
    assert torch.equal(got, triangle_attention(*inputs(), some_mask()))


def test_four_dimensions_stand_for_a_batch_of_one():
    five, mask = inputs(batch=1), some_mask(batch=1)
    four = [x[0] for x in five]
    expected = triangle_attention(*five, mask)
    assert expected.shape == (1, N, H, Q, D)
    for m in (mask[0], mask):
        assert torch.equal(triangle_attention(*four, m), expected)
    lengths = torch.full((N, 1, 1, 1), 4, dtype=torch.int32)
    assert torch.equal(
        triangle_attention(*four, kv_lengths=lengths), triangle_attention(*five, kv_lengths=lengths[None])
    )
    check(
        results(triangle_attention, four, mask[0]),
        [results(formula, five, mask)[0]] + results(lambda *x: formula(*(t[None] for t in x), mask)[0], four)[1:],
    )


def test_lengths_are_the_mask_of_the_first_keys():
    lengths = torch.tensor([[1, 4, 7], [7, 2, 0]], dtype=torch.int32)[:, :, None, None, None]
    mask = torch.arange(K) < lengths
    assert mask.shape == (B, N, 1, 1, K) and mask.sum() == lengths.sum()
    assert torch.equal(triangle_attention(*inputs(), kv_lengths=lengths), triangle_attention(*inputs(), mask))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block_bytes", [1, 100, 4 << 20])
def test_auxiliary_results(monkeypatch, dtype, block_bytes):
    monkeypatch.setattr("longfold.cuequivariance._BLOCK_BYTES", block_bytes)
    mask = some_mask()
    mask[0, 1] = False
    tensors = [x.requires_grad_() for x in inputs(dtype)]
    out, lse, largest = triangle_attention(*tensors, mask, return_aux=True)
    _, exact_lse, exact_largest = formula(*(x.double() for x in tensors), mask)
    for value, exact in ((lse, exact_lse), (largest, exact_largest)):
        assert value.shape == (B, N, H, Q, 1) and not value.requires_grad
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        usual = mask.any(-1, keepdim=True).expand_as(exact)
        assert (value - exact)[usual].abs().max() < (1e-12 if dtype == torch.float64 else 1e-5)
    assert (largest[0, 1] + 1e9).abs().max() <= 64, "all keys masked: -1e9 in float32"
    assert torch.equal(out, triangle_attention(*tensors, mask)) and out.requires_grad


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_auxiliary_results_under_autocast(low):
    """Those of q, k and v cast before: sums in float32, and max and lse of the same logits."""
    tensors = inputs(torch.float32)
    with torch.autocast(torch.get_default_device().type, dtype=low):
        got = triangle_attention(*tensors, some_mask(), return_aux=True)
    expected = triangle_attention(*(x.to(low) for x in tensors[:3]), tensors[3], some_mask(), return_aux=True)
    assert [x.dtype for x in got] == [low, torch.float32, torch.float32]
    for value, correct in zip(got, expected, strict=True):
        assert torch.equal(value, correct)
    exact = formula(*(x.to(low).double() for x in tensors[:3]), tensors[3].double(), some_mask())
    check(got[1:], exact[1:], 1e-6)


def test_auxiliary_results_of_float64_stay_under_autocast():
    with torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16):
        got = triangle_attention(*inputs(), some_mask(), return_aux=True)
    check(got, formula(*inputs(), some_mask()))


def test_a_row_of_masked_keys():
    """out, grad_v and the other rows are the formula's; q, k and bias get the gradients of uniform weights."""
    mask = some_mask()
    mask[1, 2] = False
    got, expected = results(triangle_attention, inputs(), mask), results(formula, inputs(), mask)
    mean = inputs()[2][1, 2].mean(-2, keepdim=True).expand(H, Q, D)
    check([got[0], got[3], got[0][1, 2]], [expected[0], expected[3], mean])
    others = torch.ones(B, N, dtype=torch.bool)
    others[1, 2] = False
    check([x[others] for x in got[1:3]], [x[others] for x in expected[1:3]])
    assert torch.count_nonzero(expected[1][1, 2]) == 0 and torch.count_nonzero(expected[2][1, 2]) == 0

    def uniform(q, k, v, bias):  # weights of 1 / K whose logits get the gradient of softmax
        logits = D**-0.5 * torch.einsum("bnhqd,bnhkd->bnhqk", q, k) + bias
        moved = torch.where(mask.any(-1, keepdim=True), torch.where(mask, logits, -1e9), logits - logits.detach())
        return torch.einsum("bnhqk,bnhkd->bnhqd", moved.softmax(-1), v)

    check(got, results(uniform, inputs()))


q, k, v, bias = inputs()
WRONG = {
    "q_rank": (
        (q[0, 0], k, v, bias),
        "expected q and k of shape [B, N, H, Q or K, D] or [N, H, Q or K, D], got [2, 5, 8] and [2, 3, 2, 7, 8]",
    ),
    "k": ((q, k[:, :2], v, bias), "expected k of shape [B, N, H, K, D] = [2, 3, 2, 7, 8], got [2, 2, 2, 7, 8]"),
    "v": ((q, k, v[..., :5, :], bias), "expected v of shape [B, N, H, K, D] = [2, 3, 2, 7, 8], got [2, 3, 2, 5, 8]"),
    "bias": (
        (q, k, v, bias.expand(B, N, H, Q, K)),
        "expected bias of shape [B, 1, H, Q, K] = [2, 1, 2, 5, 7], got [2, 3, 2, 5, 7]",
    ),
    "mask": (
        (q, k, v, bias, torch.ones(B, N, 1, Q, K)),
        "expected mask of shape [B, N, 1, 1, K] = [2, 3, 1, 1, 7], got [2, 3, 1, 5, 7]",
    ),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG.keys())
@pytest.mark.cpu_only
def test_messages(arguments, message):
    with pytest.raises(ValueError) as error:
        triangle_attention(*arguments)
    assert str(error.value) == f"[triangle_attention] {message}"


def test_message_for_a_scale_that_is_no_number():
    with pytest.raises(TypeError) as error:
        triangle_attention(*inputs(), scale="0.5")
    assert str(error.value) == "[triangle_attention] expected scale to be a number or None, got str"


def test_mask_and_lengths_exclude_each_other():
    lengths = torch.full((B, N, 1, 1, 1), 3)
    with pytest.raises(ValueError, match="expected mask or kv_lengths, got both"):
        triangle_attention(*inputs(), some_mask(), kv_lengths=lengths)
    with pytest.raises(ValueError, match=r"expected kv_lengths of shape \[B, N, 1, 1, 1\] = .*, got \[2, 3\]"):
        triangle_attention(*inputs(), kv_lengths=lengths[..., 0, 0, 0])


def test_compiles_in_one_graph():
    tensors = inputs(torch.float32)
    compiled = torch.compile(triangle_attention, fullgraph=True)
    assert torch.equal(compiled(*tensors, some_mask()), triangle_attention(*tensors, some_mask()))
    got = compiled(*tensors, some_mask(), return_aux=True)
    check(got, triangle_attention(*tensors, some_mask(), return_aux=True), 1e-6)


@pytest.mark.cpu_only
def test_only_the_mask_is_made_anew():
    """Beside the direct call, the additive mask in float32 and one bool of its size; forward and backward."""
    run_python("""
from longfold.cuequivariance import triangle_attention
B, N, L, H, D = 1, 96, 96, 4, 32
def peaks(function, *inputs):
    leaves = [x.detach().requires_grad_() for x in inputs]
    with MemoryMeter() as meter:
        out = function(*leaves)
    forward = meter.extra_peak
    grad = torch.randn(out.shape)
    with MemoryMeter() as meter:
        grads = torch.autograd.grad(out, leaves, grad)
    return forward, meter.extra_peak, size(out)

mask = torch.rand(B, N, 1, 1, L) < 0.5
additive = torch.where(mask, 0.0, -1e9)
q, k, v = (torch.randn(B, N, H, L, D) for _ in range(3))
bias = torch.randn(B, L, L, H).permute(0, 3, 1, 2)[:, None]
adapter = peaks(lambda q, k, v, bias: triangle_attention(q, k, v, bias, mask), q, k, v, bias)
direct = peaks(lambda q, k, v, bias: evoformer_attention(
    q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3), [additive, bias], fully_masked="mean").transpose(2, 3),
    q, k, v, bias)
assert 0 <= adapter[0] - direct[0] <= 5 * mask.numel(), (adapter, direct)
assert adapter[1] == direct[1], (adapter, direct)
assert 5 * mask.numel() < size(bias) / 3 < size(q)
with MemoryMeter() as meter, torch.no_grad():
    triangle_attention(q, k, v, bias, mask, return_aux=True)
assert meter.extra_peak <= direct[0] + 5 * mask.numel() + 8 * B * N * H * L + 3 * 4 * MIB
""")
