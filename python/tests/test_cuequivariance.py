"""cuEquivariance's triangle_attention, against the formula of its documentation in fp64; no large input is copied."""

import inspect

import pytest
import torch
from attention import seeded
from test_memory import run_python

from longfold.cuequivariance import mask_to_kv_lengths, triangle_attention

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


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8], ids=str)
def test_lengths_are_the_mask_of_the_first_keys(dtype):
    lengths = torch.tensor([[1, 4, 7], [7, 2, 9]], dtype=dtype)[:, :, None, None, None]
    mask = torch.arange(K) < lengths
    assert mask.shape == (B, N, 1, 1, K)
    got = results(triangle_attention, inputs(), kv_lengths=lengths)
    for value, expected in zip(got, results(triangle_attention, inputs(), mask), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("garbage", [0.0, float("nan"), 3e9, -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_row_of_length_zero_gives_zero(dtype, garbage):
    """Output and gradients are exactly zero, and the gradient of bias is that of the other rows, whatever q, k and v
    hold there."""
    lengths = torch.tensor([[1, 4, 7], [7, 2, 0]])[:, :, None, None, None]
    empty = lengths.view(B, N) == 0
    tensors = inputs(dtype)
    for x in tensors[:3]:
        x[empty] = garbage
    got = results(triangle_attention, tensors, kv_lengths=lengths)
    for value in got[:4]:
        assert torch.count_nonzero(value[empty]) == 0
        assert value[~empty].isfinite().all() and torch.count_nonzero(value[~empty]) > 0
    mask = torch.arange(K) < lengths
    mask[empty] = True
    expected = results(
        lambda *x: formula(*(t.double() for t in x), mask)[0] * ~empty[:, :, None, None, None], inputs(dtype)
    )
    check(got, expected, 16 * torch.finfo(dtype).eps)


WRONG_LENGTHS = {
    "negative": (torch.tensor([3, -1, 2]), "of at least 0, got -1"),
    "float": (torch.tensor([3.0, 1.0, 2.0]), "of an integer dtype, got Float"),
    "bool": (torch.tensor([True, False, True]), "of an integer dtype, got Bool"),
}


@pytest.mark.parametrize("lengths, message", WRONG_LENGTHS.values(), ids=WRONG_LENGTHS.keys())
@pytest.mark.parametrize("how", ["eager", "compiled", "vmap"])
@pytest.mark.cpu_only
def test_messages_for_lengths(lengths, message, how):
    tensors, lengths = inputs(batch=1), lengths[None, :, None, None, None]

    def call(lengths):
        return triangle_attention(*tensors, kv_lengths=lengths)

    if how == "compiled":
        call = torch.compile(call, fullgraph=True, backend="aot_eager")
    if how == "vmap":
        call, lengths = torch.func.vmap(call), lengths[None]
    with pytest.raises(Exception, match=rf"\[triangle_attention\] expected kv_lengths {message}") as error:
        call(lengths)
    assert how == "compiled" or isinstance(error.value, ValueError)


def test_mask_to_kv_lengths():
    mask = torch.arange(K) < torch.tensor([[1, 4, 7], [7, 2, 0]])[:, :, None, None, None]
    for cast in (torch.bool, torch.float32, torch.int64):
        lengths = mask_to_kv_lengths(mask.to(cast).expand(B, N, 1, 1, K))
        assert lengths.dtype == torch.int32 and lengths.shape == (B, N, 1, 1, 1) and lengths.is_contiguous()
        assert lengths.flatten().tolist() == [1, 4, 7, 7, 2, 0]
    assert torch.equal(mask_to_kv_lengths(mask[1]), lengths[1:])
    strided = torch.stack([mask, ~mask], -1)[..., 0].transpose(0, 1)
    assert mask_to_kv_lengths(strided).is_contiguous()
    assert mask_to_kv_lengths(mask[:, :0]).shape == (B, 0, 1, 1, 1)


def test_messages_of_mask_to_kv_lengths():
    mask = torch.ones(B, N, 1, 1, K, dtype=torch.bool)
    mask[1, 2, ..., 3] = False
    with pytest.raises(ValueError) as error:
        mask_to_kv_lengths(mask)
    assert str(error.value) == (
        "[mask_to_kv_lengths] expected every row of mask to be True first and then False, "
        "got a False before key 4 of row 2 of batch 1; pass it as mask instead"
    )
    for shape in ((K,), (B, N, 1, 2, K), (1, B, N, 1, 1, K)):
        with pytest.raises(ValueError, match=r"expected mask of shape \[B, N, 1, 1, K\] or \[N, 1, 1, K\], got"):
            mask_to_kv_lengths(torch.ones(shape))
    with pytest.raises(TypeError, match="expected mask to be a dense tensor, got list"):
        mask_to_kv_lengths([True])


# Garbage where the mask hides.


@pytest.mark.parametrize("k, bias", [([0, float("nan")], [0, 0]), ([0, 3e9], [0, 0]), ([0, 0], [0, 2e9])])
def test_a_mask_selects(k, bias):
    """One query, two keys of which the second is hidden: the value of the first."""
    q, v = torch.ones(1, 1, 1, 1, 1), torch.tensor([1.0, 3.0]).view(1, 1, 1, 2, 1)
    k, bias = torch.tensor(k).float().view(1, 1, 1, 2, 1), torch.tensor(bias).float().view(1, 1, 1, 1, 2)
    mask = torch.tensor([True, False]).view(1, 1, 1, 1, 2)
    assert triangle_attention(q, k, v, bias, mask).item() == 1
    out, lse, largest = triangle_attention(q, k, v, bias, mask, return_aux=True)
    assert out.item() == 1 and abs(lse.item()) < 1e-6 and largest.item() == 0


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_garbage_in_hidden_keys_changes_nothing(dtype, garbage):
    """Output and gradients have the bits that zeros there give; hidden keys and biases get none."""
    mask = some_mask()
    mask[1, 2] = False
    mask[:, :, ..., 4] = False  # in no row: the bias of this key is garbage too
    clean, spoilt = inputs(dtype), inputs(dtype)
    hidden = ~mask[:, :, 0, 0, :, None].expand(B, N, K, D)
    for x, value in ((clean, 0.0), (spoilt, garbage)):
        x[1].transpose(2, 3)[hidden.unsqueeze(-2).expand(B, N, K, H, D)] = value
        x[3][..., 4] = value
        x[0][1, 2] = value  # sees nothing
    got, expected = results(triangle_attention, spoilt, mask), results(triangle_attention, clean, mask)
    for value, correct in zip(got, expected, strict=True):
        assert torch.equal(value, correct) and torch.count_nonzero(value) > 0
    assert torch.count_nonzero(got[2].transpose(2, 3)[hidden.unsqueeze(-2).expand(B, N, K, H, D)]) == 0
    assert torch.count_nonzero(got[4][..., 4]) == 0
    check(got, results(formula, [x.double() for x in clean], mask), 16 * torch.finfo(dtype).eps)
    aux, exact = (triangle_attention(*x, mask, return_aux=True) for x in (spoilt, clean))
    assert all(torch.equal(a, b) for a, b in zip(aux, exact, strict=True))


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
    """The formula's mean of v; its logits are constants, of which q, k and bias get nothing."""
    mask = some_mask()
    mask[1, 2] = False
    got, expected = results(triangle_attention, inputs(), mask), results(formula, inputs(), mask)
    check(got, expected)
    check([got[0][1, 2]], [inputs()[2][1, 2].mean(-2, keepdim=True).expand(H, Q, D)])
    assert torch.count_nonzero(got[1][1, 2]) == 0 and torch.count_nonzero(got[2][1, 2]) == 0


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
def test_nothing_is_made_anew():
    """Beside the direct call; forward and backward."""
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
q, k, v = (torch.randn(B, N, H, L, D) for _ in range(3))
bias = torch.randn(B, L, L, H).permute(0, 3, 1, 2)[:, None]
adapter = peaks(lambda q, k, v, bias: triangle_attention(q, k, v, bias, mask), q, k, v, bias)
direct = peaks(lambda q, k, v, bias: evoformer_attention(
    q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3), [mask, bias], fully_masked="mean").transpose(2, 3),
    q, k, v, bias)
assert adapter == direct, (adapter, direct)
with MemoryMeter() as meter, torch.no_grad():
    triangle_attention(q, k, v, bias, mask, return_aux=True)
assert meter.extra_peak <= direct[0] + 8 * B * N * H * L + 3 * 4 * MIB
""")
