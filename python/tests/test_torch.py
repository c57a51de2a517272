"""How the op behaves inside torch: gradcheck, opcheck, compile, vmap, grad modes, threads of several derivatives."""

import pytest
import torch
from attention import Case, cotangents, longfold_function, make_inputs, run

from longfold import evoformer_attention

pytestmark = pytest.mark.usefixtures("device")

CASE = Case("torch", b=2, n=3, lq=5, lk=7, h=2, d=4)
OPS = torch.ops.longfold


def tensors(dtype=torch.float64, requires_grad=True):
    return [value.requires_grad_(requires_grad) for value in make_inputs(CASE, dtype).values()]


def attention(q, k, v, mask, pair):
    return evoformer_attention(q, k, v, [mask, pair], return_lse=True)


@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
def test_gradcheck(fully_masked):
    inputs = tensors()
    with torch.no_grad():
        inputs[3].clamp_(min=-2)  # finite differences of a masked key say nothing

    def function(q, k, v, mask, pair):
        return evoformer_attention(q, k, v, [mask, pair], scale=0.7, fully_masked=fully_masked, return_lse=True)

    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(dtype, requires_grad):
    q, k, v, mask, pair = tensors(dtype, requires_grad)
    tolerance = {"atol": 1e-2, "rtol": 1e-2} if dtype == torch.bfloat16 else {}
    torch.library.opcheck(OPS.evoformer_attention.default, (q, k, v, [mask, pair]), **tolerance)
    torch.library.opcheck(
        OPS.evoformer_attention.default, (q, k, v, []), {"scale": 0.3, "fully_masked": "mean"}, **tolerance
    )


@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck_of_the_backward_op(requires_grad):
    q, k, v, mask, pair = tensors(torch.float32, requires_grad)
    with torch.no_grad():
        out, lse, correction = OPS.evoformer_attention(q, k, v, [mask, pair])
    for grad_lse, needs in ((None, [True, True]), (torch.randn_like(lse), [False, True])):
        args = (torch.randn_like(out), grad_lse, q, k, v, [mask, pair], out, lse, correction)
        torch.library.opcheck(OPS.evoformer_attention_backward.default, args, {"bias_needs_grad": needs})


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_in_one_graph(dynamic):
    compiled = torch.compile(longfold_function, fullgraph=True, dynamic=dynamic)
    for case in (CASE, Case("other", b=2, n=4, lq=6, lk=9, h=2, d=4)):
        inputs, cotangent = make_inputs(case, torch.float32), cotangents(case, torch.float32)
        expected = run(longfold_function, inputs, cotangent)
        for name, value in run(compiled, inputs, cotangent).items():
            assert torch.equal(value, expected[name]), name


def test_meta_tensors_have_shapes_and_dtypes_only():
    inputs = [value.to("meta") for value in tensors(torch.bfloat16, requires_grad=False)]
    out, lse = attention(*inputs)
    assert out.shape == CASE.shape("out") and out.dtype == torch.bfloat16 and out.is_meta
    assert lse.shape == (2, 3, 2, 5) and lse.dtype == torch.float32 and lse.is_meta


IN_DIMS = (2, None, 0, None, 1)


def stacked(num=3):
    """q, v and the pair bias differ from example to example, each with the new dimension elsewhere."""
    examples = [list(make_inputs(CASE, torch.float64, seed=seed).values()) for seed in range(num)]
    args = [
        examples[0][i] if dim is None else torch.stack([e[i] for e in examples], dim) for i, dim in enumerate(IN_DIMS)
    ]
    one_by_one = [[a if d is None else a.select(d, i) for a, d in zip(args, IN_DIMS, strict=True)] for i in range(num)]
    return args, one_by_one


def test_vmap_forward():
    args, one_by_one = stacked()
    out, lse = torch.func.vmap(attention, in_dims=IN_DIMS)(*args)
    for i, example in enumerate(one_by_one):
        expected = attention(*example)
        assert torch.equal(out[i], expected[0]) and torch.equal(lse[i], expected[1])


def test_vmap_of_gradients():
    args, one_by_one = stacked()
    gradients = torch.func.grad(lambda *x: attention(*x)[0].square().sum(), argnums=(0, 1, 2, 3, 4))
    results = torch.func.vmap(gradients, in_dims=IN_DIMS)(*args)
    for i, example in enumerate(one_by_one):
        for value, expected in zip(results, gradients(*example), strict=True):
            assert torch.equal(value[i], expected)


def test_only_some_inputs_need_gradients():
    inputs, cotangent = make_inputs(CASE, torch.float64), cotangents(CASE, torch.float64)
    everything = run(longfold_function, inputs, cotangent)
    for name in inputs:
        x = dict(inputs) | {name: inputs[name].clone().requires_grad_()}
        (grad,) = torch.autograd.grad(longfold_function(x), x[name], cotangent)
        assert torch.equal(grad, everything[f"grad_{name}"]), name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_grad_saves_nothing(mode):
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with mode():
            out, _ = attention(*tensors())
        assert not saved and out.grad_fn is None
        attention(*tensors())
        assert (
            len(saved) == 8
        )  # q, k, v, two biases, out, log-sum-exp and its correction: the hook does see what is saved


def test_in_place_change_after_forward_is_noticed():
    inputs = tensors()
    out, _ = attention(*inputs)
    with torch.no_grad():
        inputs[1].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_graph_is_freed_after_backward():
    out, _ = attention(*tensors())
    out.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        out.sum().backward()


def test_forward_mode_is_refused():
    inputs = tensors(requires_grad=False)
    with pytest.raises(NotImplementedError, match="expected reverse-mode differentiation"):
        torch.func.jvp(lambda q: attention(q, *inputs[1:])[0], (inputs[0],), (inputs[0],))


def test_checkpointing_gives_the_same_bits():
    inputs, cotangent = make_inputs(CASE, torch.float32), cotangents(CASE, torch.float32)

    def checkpointed(x):
        return torch.utils.checkpoint.checkpoint(longfold_function, x, use_reentrant=False)

    expected = run(longfold_function, inputs, cotangent)
    for name, value in run(checkpointed, inputs, cotangent).items():
        assert torch.equal(value, expected[name]), name
