"""OpenFold's two calls against its formula in fp64, for leading dimensions of every kind; no input is copied."""

import importlib
import sys
import types

import pytest
import torch
from attention import seeded
from test_memory import run_python
from torch.utils._python_dispatch import TorchDispatchMode

from longfold import evoformer_attention, openfold

pytestmark = pytest.mark.usefixtures("device")

H, Q, K, D = 2, 5, 7, 8


def formula(query, key, value, biases):
    """OpenFold's `_attention`: query [*, H, Q, D] is scaled, biases broadcast to [*, H, Q, K]."""
    logits = torch.einsum("...hqd,...hkd->...hqk", query, key)
    for bias in biases:
        logits = logits + bias
    return torch.einsum("...hqk,...hkd->...hqd", logits.softmax(-1), value)


def unscaled_formula(q, k, v, biases):
    """OpenFold's `_deepspeed_evo_attn`: it scales q itself, and heads come after the length."""
    return formula(q * D**-0.5, k, v, biases).transpose(-2, -3)


CALLS = [(openfold.attention, formula), (openfold.evo_attention, unscaled_formula)]
calls = pytest.mark.parametrize("call, exact", CALLS, ids=["attention", "evo_attention"])


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(seed + sum(shape)), dtype=torch.float64).to(dtype)


def results(call, q, k, v, biases):
    leaves = [x.detach().requires_grad_() for x in (q, k, v, *biases)]
    out = call(*leaves[:3], leaves[3:])
    return [out, *torch.autograd.grad(out, leaves, randn(*out.shape, seed=5).to(out.dtype))]


def check(call, exact, q, k, v, biases):
    got, expected = results(call, q, k, v, biases), results(exact, q, k, v, biases)
    for value, correct in zip(got, expected, strict=True):
        assert value.shape == correct.shape
        assert correct.abs().max() > 0.01
        assert (value - correct).abs().max() <= 1e-12 * correct.abs().max()


# [*] of q, k and v, then of each bias with its size over Q.
LEAD = {
    "none": ((), [((), Q)]),
    "one": ((3,), [((3,), 1), ((1,), Q)]),
    "msa_row": ((2, 3), [((2, 3), 1), ((2, 1), Q)]),
    "msa_column": ((2, 3), [((2, 3), 1)]),
    "template_triangle": ((2, 4, 3), [((2, 4, 3), 1), ((2, 4, 1), Q)]),
    "pair_bias_of_the_batch": ((2, 4, 3), [((2, 4, 3), 1), ((2, 1, 1), Q)]),
    "mask_of_the_batch": ((2, 4, 3), [((2, 1, 1), 1), ((1, 1, 1), Q)]),
    "pair_bias_in_the_middle": ((2, 4, 3), [((2, 1, 3), Q)]),
    "pair_biases_that_disagree": ((2, 4, 3), [((1, 4, 1), Q), ((2, 1, 3), Q)]),
    "bias_of_every_row": ((2, 3), [((2, 3), Q)]),
    "four": ((2, 1, 3, 2), [((2, 1, 3, 2), 1), ((2, 1, 1, 1), Q), ((1, 1, 3, 1), Q)]),
    "fewer_dimensions": ((2, 3), [((), Q), ((3,), 1)]),
}


@calls
@pytest.mark.parametrize("lead, bias_leads", LEAD.values(), ids=LEAD.keys())
def test_leading_dimensions(call, exact, lead, bias_leads):
    q, k, v = randn(*lead, H, Q, D), randn(*lead, H, K, D, seed=1), randn(*lead, H, K, D, seed=2)
    biases = [randn(*rows, 1 if size == 1 else H, size, K, seed=3) for rows, size in bias_leads]
    check(call, exact, q, k, v, biases)


STRIDES = {
    "as_openfold_makes_them": lambda x: x.transpose(-2, -3).contiguous().transpose(-2, -3),
    "rows_swapped": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "rows_in_any_order": lambda x: x.permute(2, 0, 1, 3, 4, 5).contiguous().permute(1, 2, 0, 3, 4, 5),
    "inside_a_larger_tensor": lambda x: torch.nn.functional.pad(x, (1, 2, 0, 1, 3, 0, 1, 1, 2, 0))[
        :, 2:, 1:-1, 3:, :-1, 1:-2
    ],
    "expanded": lambda x: x[:1, :, :1].expand_as(x),
}


@calls
@pytest.mark.parametrize("restride", STRIDES.values(), ids=STRIDES.keys())
def test_strides(call, exact, restride):
    q, k, v = (restride(randn(2, 4, 3, H, size, D, seed=size)) for size in (Q, K, K))
    mask, pair = restride(randn(2, 4, 3, 1, 1, K)), randn(2, 1, 1, H, Q, K)
    check(call, exact, q, k, v, [mask, pair])


@calls
def test_keys_and_values_broadcast_as_in_matmul(call, exact):
    check(call, exact, randn(2, 3, H, Q, D), randn(3, 1, K, D), randn(2, 1, H, K, D), [randn(H, Q, K)])


@calls
def test_biases_may_be_none_or_missing_and_the_list_stays(call, exact):
    q, k, v, pair = randn(2, 3, H, Q, D), randn(2, 3, H, K, D), randn(2, 3, H, K, D, seed=1), randn(2, 1, H, Q, K)
    biases = [None, pair]
    assert torch.equal(call(q, k, v, biases), call(q, k, v, [pair])) and biases == [None, pair]
    for nothing in ([], (), [None, None]):
        assert (call(q, k, v, nothing) - exact(q, k, v, [])).abs().max() < 1e-12
    assert torch.equal(call(q, k, v), call(q, k, v, []))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dtypes_are_kept_and_none_is_rounded_on_the_way(dtype):
    q, k, v, pair = (randn(2, 3, H, n, m, seed=n).to(dtype) for n, m in ((Q, D), (K, D), (K, D), (Q, K)))
    pair = pair[:, :1].float()
    for call, exact in CALLS:
        out = call(q, k, v, [pair])
        expected = exact(q.double(), k.double(), v.double(), [pair.double()])
        assert out.dtype == dtype
        assert (out - expected).abs().max() < 4 * torch.finfo(dtype).eps * expected.abs().max()


@calls
def test_a_row_of_masked_keys_gives_the_mean_with_the_gradients_of_uniform_weights(call, exact):
    """OpenFold's mask is 1e9 (mask - 1): in float32 it swallows the logits, so that all weights are alike."""
    q, k, v, pair = randn(1, 3, H, Q, D), randn(1, 3, H, K, D), randn(1, 3, H, K, D, seed=1), randn(1, 1, H, Q, K)
    mask = torch.zeros(1, 3, 1, 1, K)
    mask[:, 1] = -1e9
    inputs = [x.float() for x in (q, k, v)]
    got = results(call, *inputs, [mask, pair.float()])
    expected = results(exact, *inputs, [mask, pair.float()])
    assert (got[0].select(1, 1) - v.mean(-2)[:, 1].unsqueeze(2 if exact is formula else 1)).abs().max() < 1e-6
    for value, correct in zip(got, expected, strict=True):
        assert correct.abs().max() > 0.01
        assert (value - correct).abs().max() < 1e-5 * correct.abs().max()


WRONG = {
    "bias_length": (
        [randn(2, 3, H, Q, D), randn(2, 3, H, K, D), randn(2, 3, H, K, D), [None, randn(2, 1, H, Q, Q)]],
        f"expected biases[1] to broadcast to [*, H, Q, K] = [2, 3, 2, 5, 7], got [2, 1, 2, {Q}, {Q}]",
    ),
    "bias_rank": (
        [randn(H, Q, D), randn(H, K, D), randn(H, K, D), [randn(1, H, Q, K)]],
        "expected biases[0] to broadcast to [*, H, Q, K] = [2, 5, 7], got [1, 2, 5, 7]",
    ),
    "head_dim": (
        [randn(H, Q, D), randn(H, K, 4), randn(H, K, D), []],
        "expected q of shape [*, H, Q, D] and k, v of shape [*, H, K, D], got [2, 5, 8], [2, 7, 4], [2, 7, 8]",
    ),
    "rank": (
        [randn(Q, D), randn(K, D), randn(K, D), []],
        "expected q of shape [*, H, Q, D] and k, v of shape [*, H, K, D], got [5, 8], [7, 8], [7, 8]",
    ),
    "rows": (
        [randn(3, H, Q, D), randn(4, H, K, D), randn(3, H, K, D), []],
        "expected the [*, H] of q, k and v to broadcast, got [3, 2], [4, 2], [3, 2]",
    ),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("name", ["attention", "evo_attention"])
@pytest.mark.cpu_only
def test_messages(name, arguments, message):
    with pytest.raises(ValueError) as error:
        getattr(openfold, name)(*arguments)
    assert str(error.value) == f"[openfold.{name}] {message}"


def test_compiles_in_one_graph():
    q, k, v = (randn(2, 4, 3, H, n, D, seed=n, dtype=torch.float32) for n in (Q, K, K))
    biases = [randn(2, 4, 3, 1, 1, K, dtype=torch.float32), randn(2, 4, 1, H, Q, K, dtype=torch.float32)]
    compiled = torch.compile(openfold.attention, fullgraph=True)
    assert torch.equal(compiled(q, k, v, biases), openfold.attention(q, k, v, biases))


def test_one_call_for_the_rows_that_share_a_bias(monkeypatch):
    """[B, T, N] rows with a pair bias for each of B, T are B * T batches of N rows, not a loop."""
    shapes = []

    def spy(q, k, v, biases, **options):
        shapes.append((tuple(q.shape), [tuple(b.shape) for b in biases]))
        return evoformer_attention(q, k, v, biases, **options)

    monkeypatch.setattr(openfold, "evoformer_attention", spy)
    q, k, v = (randn(2, 4, 3, H, n, D) for n in (Q, K, K))
    openfold.attention(q, k, v, [randn(2, 4, 3, 1, 1, K), randn(2, 4, 1, H, Q, K)])
    assert shapes == [((8, 3, Q, H, D), [(8, 3, 1, 1, K), (8, 1, H, Q, K)])]


@pytest.mark.parametrize("requires_grad", [False, True])
def test_one_call_for_a_bias_of_every_row_also_with_its_gradient(requires_grad):
    """A bias that varies over N, Q and K has a gradient as any other: nothing to avoid by a loop or by N = 1."""
    shapes = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            if op is torch.ops.longfold.evoformer_attention.default:
                shapes.append((tuple(args[0].shape), [tuple(b.shape) for b in args[3]]))
            return op(*args, **(kwargs or {}))

    for lead, folded in (((2, 3), (2, 3, H, Q, D)), ((2, 4, 3), (8, 3, Q, H, D))):
        q, k, v = (randn(*lead, H, n, D) for n in (Q, K, K))
        bias = randn(*lead, H, Q, K).requires_grad_(requires_grad)
        with Spy():
            out = openfold.attention(q, k, v, [bias, randn(*lead[:-1], 1, H, Q, K)])
        assert shapes.pop() == (folded, [(*folded[:2], H, Q, K), (folded[0], 1, H, Q, K)]) and not shapes
        assert out.requires_grad == requires_grad


def test_replaces_the_functions_of_openfold(monkeypatch):
    """As documented: OpenFold looks its functions up when it calls them."""
    primitives = types.ModuleType("openfold.model.primitives")
    exec("def forward(q, k, v, biases):\n    return _attention(q, k, v, biases)\n", primitives.__dict__)
    for name in ("openfold", "openfold.model"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "openfold.model.primitives", primitives)
    importlib.import_module("openfold.model.primitives")._attention = openfold.attention
    q, k, v = randn(3, H, Q, D), randn(3, H, K, D), randn(3, H, K, D)
    assert torch.equal(primitives.forward(q, k, v, []), openfold.attention(q, k, v, []))


MEMORY = """
from longfold import openfold
def peaks(function, *inputs):
    leaves = [x.detach().requires_grad_() for x in inputs]
    with MemoryMeter() as meter:
        out = function(*leaves)
    forward = meter.extra_peak
    grad = torch.randn(out.shape)
    with MemoryMeter() as meter:
        grads = torch.autograd.grad(out, leaves, grad)
    return forward, meter.extra_peak, out, grads
"""


@pytest.mark.parametrize("call", ["attention", "evo_attention"])
@pytest.mark.cpu_only
def test_nothing_is_copied(call):
    """The same bytes as the direct call, for [B, T, N] rows and OpenFold's own strides, forward and backward."""
    run_python(f"""{MEMORY}
B, T, N, L, H, D = 2, 2, 24, 64, 4, 32
q, k, v = (torch.randn(B, T, N, L, H, D).transpose(-2, -3) for _ in range(3))  # [*, H, L, D]
mask = torch.randn(B, T, N, L)[..., None, None, :]
pair = torch.randn(B, T, L, L, H).permute(0, 1, 4, 2, 3).unsqueeze(-4)
adapter = peaks(lambda *x: openfold.{call}(*x[:3], list(x[3:])), q, k, v, mask, pair)
direct = peaks(lambda *x: evoformer_attention(*x[:3], x[3:]),
               *(x.transpose(-2, -3).flatten(0, 1) for x in (q, k, v)), mask.flatten(0, 1), pair.flatten(0, 1))
assert adapter[:2] == direct[:2], (adapter[:2], direct[:2])
assert size(adapter[2]) < direct[0] < 2 * size(adapter[2])
""")


@pytest.mark.cpu_only
def test_where_no_view_folds_the_rows_only_the_output_is_copied():
    run_python(f"""{MEMORY}
B, T, N, L, H, D = 2, 2, 128, 64, 4, 32
q, k, v = (torch.randn(N, T, B, H, L, D).permute(2, 1, 0, 3, 4, 5) for _ in range(3))
with torch.no_grad(), MemoryMeter() as meter:
    out = openfold.attention(q, k, v, [])
assert meter.extra_peak < 2 * size(out) + B * T * N * L * H * 8 + 2 * 4 * MIB
assert 3 * size(out) > 2 * size(out) + B * T * N * L * H * 8 + 2 * 4 * MIB, "too small to see a copy"
""")
