"""Gradients of many cotangents at once, by the vmap inside autograd; torch.func.vmap of every name of any operands."""

import itertools

import pytest
import torch
from torch._vmap_internals import _vmap

from longfold import evoformer_attention
from longfold.cuequivariance import triangle_attention
from longfold.deepspeed4science import DS4Sci_EvoformerAttention
from longfold.openfold import attention, evo_attention

B, N, H, Q, K, D = 1, 2, 2, 3, 2, 2


def randn(*shape):
    generator = torch.Generator().manual_seed(sum(i * size for i, size in enumerate(shape, 1)))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def heads_last():
    return [
        randn(B, N, Q, H, D),
        randn(B, N, K, H, D),
        randn(B, N, K, H, D),
        randn(B, N, 1, 1, K),
        randn(B, 1, H, Q, K),
    ]


def heads_first():
    return [x.transpose(2, 3) if i < 3 else x for i, x in enumerate(heads_last())]


MASK = torch.tensor([[True, False], [True, True]])[None, :, None, None]
LENGTHS = torch.tensor([1, 2])[None, :, None, None, None]

# The call, its differentiable arguments, and those that are not.
CALLS = {
    "evoformer_attention": (
        lambda q, k, v, mask, pair, shown: evoformer_attention(q, k, v, [mask, pair, shown]),
        heads_last(),
        [MASK],
    ),
    "with_log_sum_exp": (
        lambda q, k, v, mask, pair: evoformer_attention(q, k, v, (mask, pair), return_lse=True),
        heads_last(),
        [],
    ),
    "log_sum_exp_alone": (
        lambda q, k, v, mask, pair: evoformer_attention(q, k, v, (mask, pair), return_lse=True)[1],
        heads_last(),
        [],
    ),
    "DS4Sci_EvoformerAttention": (
        lambda q, k, v, mask, pair: DS4Sci_EvoformerAttention(q, k, v, [mask, pair]),
        heads_last(),
        [],
    ),
    "triangle_attention_mask": (
        lambda q, k, v, bias, mask: triangle_attention(q, k, v, bias, mask),
        [x for i, x in enumerate(heads_first()) if i != 3],
        [MASK],
    ),
    "triangle_attention_lengths": (
        lambda q, k, v, bias, lengths: triangle_attention(q, k, v, bias, kv_lengths=lengths, return_aux=True)[0],
        [x for i, x in enumerate(heads_first()) if i != 3],
        [LENGTHS],
    ),
    "attention": (lambda q, k, v, mask, pair: attention(q, k, v, [mask, pair]), heads_first(), []),
    "evo_attention": (lambda q, k, v, mask, pair: evo_attention(q, k, v, [mask, pair]), heads_first(), []),
    "evo_attention_in_a_loop": (
        lambda q, k, v, mask, pair: evo_attention(q, k, v, [mask, pair]),
        [
            randn(2, 1, 2, H, Q, D),
            randn(2, 1, 2, H, K, D),
            randn(2, 1, 2, H, K, D),
            randn(1, 1, 2, 1, 1, K),
            randn(2, 1, 1, H, Q, K),
        ],
        [],
    ),
}
every_call = pytest.mark.parametrize("call, inputs, constants", CALLS.values(), ids=CALLS.keys())
# Second derivatives of these take long. The same op runs in the others, with each kind of operand.
SLOW = {"evoformer_attention", "with_log_sum_exp", "triangle_attention_mask", "attention", "evo_attention"}
every_call_by_speed = pytest.mark.parametrize(
    "call, inputs, constants",
    [pytest.param(*CALLS[x], id=x, marks=[pytest.mark.nightly] if x in SLOW else []) for x in CALLS],
)


def leaves_of(inputs):
    return [x.detach().clone().requires_grad_() for x in inputs]


@every_call_by_speed
def test_gradcheck_and_gradgradcheck_with_batched_gradients(call, inputs, constants):
    def function(*x):
        return call(*x, *constants)

    assert torch.autograd.gradcheck(function, leaves_of(inputs), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, leaves_of(inputs), check_batched_grad=True)


@every_call
def test_gradcheck_of_each_operand_alone(call, inputs, constants):
    for i in range(len(inputs)):
        fixed = [x.detach() for x in inputs]

        def function(x, i=i, fixed=fixed):
            return call(*fixed[:i], x, *fixed[i + 1 :], *constants)

        assert torch.autograd.gradcheck(function, leaves_of(inputs)[i], check_batched_grad=True), i


@every_call
def test_is_grads_batched_gives_the_bits_of_each_call(call, inputs, constants):
    leaves = leaves_of(inputs)
    out = call(*leaves, *constants)
    outputs = out if isinstance(out, tuple) else (out,)
    cotangents = [randn(3, *x.shape) for x in outputs]
    batched = torch.autograd.grad(outputs, leaves, cotangents, is_grads_batched=True, retain_graph=True)
    for i in range(3):
        expected = torch.autograd.grad(outputs, leaves, [x[i] for x in cotangents], retain_graph=True)
        for value, correct in zip(batched, expected, strict=True):
            assert torch.equal(value[i], correct)
        assert torch.count_nonzero(expected[0]) > 0 and torch.count_nonzero(expected[1]) > 0


def test_batches_of_batches():
    """Two of the vmaps inside autograd, one in the other."""
    leaves = leaves_of(heads_last())
    out = evoformer_attention(*leaves[:3], leaves[3:])
    cotangents = randn(2, 3, *out.shape)

    def grads(cotangent):
        return torch.autograd.grad(out, leaves, cotangent, is_grads_batched=True, retain_graph=True)

    batched = _vmap(grads)(cotangents)
    for i, j in itertools.product(range(2), range(3)):
        expected = torch.autograd.grad(out, leaves, cotangents[i, j], retain_graph=True)
        assert all(torch.equal(a[i, j], b) for a, b in zip(batched, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_is_grads_batched_in_other_dtypes(dtype):
    leaves = leaves_of([x.to(dtype) for x in heads_last()])
    out = evoformer_attention(*leaves[:3], [leaves[3], MASK, leaves[4].float()])
    cotangents = randn(2, *out.shape).to(dtype)
    batched = torch.autograd.grad(out, leaves, cotangents, is_grads_batched=True, retain_graph=True)
    for i in range(2):
        expected = torch.autograd.grad(out, leaves, cotangents[i], retain_graph=True)
        assert all(torch.equal(a[i], b) for a, b in zip(batched, expected, strict=True))


@every_call
def test_vectorized_jacobian(call, inputs, constants):
    def function(*x):
        return call(*x, *constants)

    fast, slow = (torch.autograd.functional.jacobian(function, tuple(inputs), vectorize=v) for v in (True, False))
    for a, b in zip(torch.utils._pytree.tree_leaves(fast), torch.utils._pytree.tree_leaves(slow), strict=True):
        assert torch.equal(a, b)
    reverse = torch.func.jacrev(function, argnums=tuple(range(len(inputs))))(*inputs)
    for a, b in zip(torch.utils._pytree.tree_leaves(reverse), torch.utils._pytree.tree_leaves(slow), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_vectorized_hessian():
    def function(q, k, v, mask, pair):
        return evoformer_attention(q, k, v, [mask, MASK, pair]).square().sum()

    fast, slow = (
        torch.autograd.functional.hessian(function, tuple(heads_last()), vectorize=vectorize)
        for vectorize in (True, False)
    )
    for a, b in zip(torch.utils._pytree.tree_leaves(fast), torch.utils._pytree.tree_leaves(slow), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def other(x, i):
    """Like x, with other values; still right where it has lengths or bools."""
    return (x + i) % (K + 1) if x.dtype == torch.int64 else x.roll(i, 1) if x.dtype == torch.bool else x + 0.1 * i


@every_call
def test_vmap_over_any_operands(call, inputs, constants):
    """Over each alone, each pair and all, with gradients."""
    operands = [*inputs, *constants]
    choices = [set(c) for r in (1, 2, len(operands)) for c in itertools.combinations(range(len(operands)), r)]
    for mapped in choices:
        args = [
            torch.stack([other(x.detach(), j) for j in range(2)], -1) if i in mapped else x.detach().clone()
            for i, x in enumerate(operands)
        ]
        leaves = [x.requires_grad_() for x in args if x.is_floating_point()]
        out = torch.func.vmap(call, in_dims=tuple(-1 if i in mapped else None for i in range(len(args))))(*args)
        one_by_one = [call(*(x[..., j] if i in mapped else x for i, x in enumerate(args))) for j in range(2)]
        if isinstance(out, tuple):
            out, one_by_one = out[0], [x[0] for x in one_by_one]
        expected = torch.stack(one_by_one)
        assert torch.equal(out, expected), mapped
        cotangent = randn(*out.shape)
        grads = torch.autograd.grad(out, leaves, cotangent)
        for value, correct in zip(grads, torch.autograd.grad(expected, leaves, cotangent), strict=True):
            torch.testing.assert_close(value, correct, rtol=1e-12, atol=1e-13)
