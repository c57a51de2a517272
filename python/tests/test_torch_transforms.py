"""torch's checks and transforms with every option: opcheck, dynamic shapes, vmap, checkpointing."""

import pytest
import torch
from attention import Case, cotangents, longfold_function, make_inputs, run
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from longfold import evoformer_attention

pytestmark = pytest.mark.usefixtures("device")

CASE = Case("torch", b=2, n=3, lq=5, lk=7, h=2, d=4)
OPS = torch.ops.longfold


def examples(num: int, dtype=torch.float64) -> list[list[torch.Tensor]]:
    return [list(make_inputs(CASE, dtype, seed=seed).values()) for seed in range(num)]


def attention(q, k, v, *biases):
    return evoformer_attention(q, k, v, biases, return_lse=True)


# opcheck


def several_biases(dtype) -> list[torch.Tensor]:
    """One that varies over everything, one without leading dimensions, one expanded, each of its own dtype."""
    full, short, row = torch.randn(2, 3, 2, 5, 7), torch.randn(7), torch.randn(2, 3, 1, 1, 7)
    short[0] = -float("inf")
    return [full.to(dtype), short.double(), row.bfloat16().expand(2, 3, 2, 1, 7)]


@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_opcheck_with_general_biases(dtype, fully_masked):
    q, k, v, *_ = (value.requires_grad_() for value in make_inputs(CASE, dtype).values())
    biases = several_biases(dtype)
    biases[0][0, 1] = -float("inf")  # a fully masked row
    tolerance = {"atol": 1e-2, "rtol": 1e-2} if dtype.itemsize == 2 else {}
    options = {"scale": 0.3, "fully_masked": fully_masked}
    torch.library.opcheck(OPS.evoformer_attention.default, (q, k, v, biases), options, **tolerance)


@pytest.mark.parametrize("bias_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck_with_gradients_of_biases_of_another_dtype(bias_dtype):
    q, k, v, mask, pair = (value.requires_grad_() for value in make_inputs(CASE, torch.bfloat16, bias_dtype).values())
    op = OPS.evoformer_attention.default
    torch.library.opcheck(op, (q, k, v, [pair, mask]), {"fully_masked": "mean"}, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
def test_opcheck_of_the_backward_op(fully_masked):
    q, k, v, mask, pair = make_inputs(CASE, torch.float32, torch.bfloat16).values()
    biases = [*several_biases(torch.float32), mask, pair]
    out, lse, correction = OPS.evoformer_attention(q, k, v, biases, fully_masked=fully_masked)
    args = (torch.ones(()).expand_as(out), torch.randn_like(lse), q, k, v, biases, out, lse, correction)
    options = {"fully_masked": fully_masked, "scale": 0.7, "bias_needs_grad": [False, True, False, True, True]}
    torch.library.opcheck(OPS.evoformer_attention_backward.default, args, options)


# torch.compile


def marked(inputs: dict) -> dict:
    """The numbers of rows, queries and keys may change."""
    for name, value in inputs.items():
        for dim in {"mask": (1, 4), "pair": (3, 4)}.get(name, (1, 2)):
            torch._dynamo.mark_dynamic(value, dim)
    return inputs


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_another_length_is_not_compiled_anew(backend):
    """Forward and backward, in one graph for all lengths; mark_dynamic raises where one becomes a constant."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(longfold_function, fullgraph=True, backend=counter)
    for n, lq, lk in ((3, 5, 7), (4, 6, 9), (2, 70, 65), (9, 17, 130)):
        case = Case("lengths", b=2, n=n, lq=lq, lk=lk, h=2, d=4)
        inputs, cotangent = make_inputs(case, torch.float32), cotangents(case, torch.float32)
        expected = run(longfold_function, inputs, cotangent)
        leaves = marked({name: value.clone().requires_grad_() for name, value in inputs.items()})
        out = compiled(leaves)
        assert torch.equal(out, expected["out"])
        for name, grad in zip(leaves, torch.autograd.grad(out, list(leaves.values()), cotangent), strict=True):
            assert torch.equal(grad, expected[f"grad_{name}"]), (name, case)
    assert counter.frame_count == 1, counter.frame_count


def test_another_length_is_compiled_anew_where_it_may_not_change():
    """That the counter above would count."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(longfold_function, fullgraph=True, backend=counter, dynamic=False)
    for lq in (5, 6):
        compiled(make_inputs(Case("length", n=2, lq=lq, h=1, d=4), torch.float32))
    assert counter.frame_count == 2


def test_options_are_checked_in_one_graph_also_where_the_scale_changes():
    """A float argument of the compiled function becomes symbolic when it changes: the checks must let it through."""
    torch._dynamo.reset()
    compiled = torch.compile(longfold_function, fullgraph=True, backend="aot_eager")
    inputs = make_inputs(CASE, torch.float32)
    for scale in (0.5, 0.25, 0.125, 2, 3, 4, None):
        options = {"scale": scale, "fully_masked": "mean"}
        assert torch.equal(compiled(inputs, **options), longfold_function(inputs, **options)), scale


# torch.func.vmap


def test_vmap_with_unbatched_biases():
    sets = examples(3)
    mask, pair = sets[0][3:]
    args = [torch.stack([example[i] for example in sets], 4 if i == 2 else 1) for i in range(3)]
    out, lse = torch.func.vmap(attention, in_dims=(1, 1, 4, None, None))(*args, mask, pair)
    for i, (q, k, v, *_) in enumerate(sets):
        expected = attention(q, k, v, mask, pair)
        assert torch.equal(out[i], expected[0]) and torch.equal(lse[i], expected[1])


def test_vmap_over_biases_only_and_out_dims():
    sets = examples(3)
    q, k, v, *_ = sets[0]
    mask, pair = (torch.stack([example[i] for example in sets], -1) for i in (3, 4))
    out, lse = torch.func.vmap(attention, in_dims=(None, None, None, -1, -1), out_dims=(2, -1))(q, k, v, mask, pair)
    for i, example in enumerate(sets):
        expected = attention(q, k, v, *example[3:])
        assert torch.equal(out.select(2, i), expected[0]) and torch.equal(lse[..., i], expected[1])


def test_nested_vmap():
    """The outer one over q and the pair bias, the inner one over k, v and the mask, each elsewhere."""
    outer, inner = examples(2), examples(3)
    q, pair = (torch.stack([example[i] for example in outer], 3) for i in (0, 4))
    k, v, mask = (torch.stack([example[i] for example in inner], i) for i in (1, 2, 3))
    nested = torch.func.vmap(
        torch.func.vmap(attention, in_dims=(None, 1, 2, 3, None)), in_dims=(3, None, None, None, 3)
    )
    out, lse = nested(q, k, v, mask, pair)
    assert out.shape == (2, 3, *CASE.shape("out"))
    for i in range(2):
        for j in range(3):
            expected = attention(outer[i][0], *inner[j][1:4], outer[i][4])
            assert torch.equal(out[i, j], expected[0]) and torch.equal(lse[i, j], expected[1])


def test_vmap_under_grad():
    """The gradient of a sum over examples, taken outside: a bias that all share gets the sum of theirs."""
    sets = examples(3)
    q, k, v = (torch.stack([example[i] for example in sets], 2) for i in range(3))
    mask, pair = (value.requires_grad_() for value in sets[0][3:])
    leaves = [value.requires_grad_() for value in (q, k, v)] + [mask, pair]
    out, lse = torch.func.vmap(attention, in_dims=(2, 2, 2, None, None))(*leaves)
    grads = torch.autograd.grad(out.square().sum() + lse.sin().sum(), leaves)
    one_by_one = []
    for example in sets:
        x = [value.detach().requires_grad_() for value in (*example[:3], mask, pair)]
        out, lse = attention(*x)
        one_by_one.append(torch.autograd.grad(out.square().sum() + lse.sin().sum(), x))
    for i in range(3):
        assert torch.equal(grads[i], torch.stack([g[i] for g in one_by_one], 2))
    for i in (3, 4):
        torch.testing.assert_close(grads[i], sum(g[i] for g in one_by_one), rtol=1e-13, atol=1e-13)


# torch.utils.checkpoint


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_checkpointing_gives_the_same_bits(dtype, use_reentrant):
    inputs, cotangent = make_inputs(CASE, dtype), cotangents(CASE, dtype)
    calls = []

    def counted(q, k, v, mask, pair):
        calls.append(torch.is_grad_enabled())
        return evoformer_attention(q, k, v, [mask, pair])

    expected = run(longfold_function, inputs, cotangent)
    leaves = [value.clone().requires_grad_() for value in inputs.values()]
    out = checkpoint(counted, *leaves, use_reentrant=use_reentrant)
    out.backward(cotangent)
    assert torch.equal(out, expected["out"])
    for name, leaf in zip(inputs, leaves, strict=True):
        assert torch.equal(leaf.grad, expected[f"grad_{name}"]), name
    assert calls == [not use_reentrant, True]
