"""B, N, H, Lq or a leading dimension of 0, in every function: empty results, zeros for what is shared."""

import pytest
import torch

from longfold import evoformer_attention
from longfold.cuequivariance import mask_to_kv_lengths, triangle_attention
from longfold.deepspeed4science import DS4Sci_EvoformerAttention
from longfold.openfold import attention, evo_attention

SIZES = {"B": 2, "N": 3, "H": 2, "Q": 4, "K": 5, "D": 8}

# What to call, the letters of its arguments, those of the output.
CALLS = {
    "evoformer_attention": (
        lambda q, k, v, mask, pair: evoformer_attention(q, k, v, [mask, pair]),
        ("BNQHD", "BNKHD", "BNKHD", "BN11K", "B1HQK"),
        "BNQHD",
    ),
    "general_and_shift": (
        lambda q, k, v, general, shift: sum(evoformer_attention(q, k, v, [general, shift], return_lse=True)[1:]),
        ("BNQHD", "BNKHD", "BNKHD", "NHQK", "HQ1"),
        "BNHQ",
    ),
    "DS4Sci_EvoformerAttention": (
        lambda q, k, v, mask, pair: DS4Sci_EvoformerAttention(q, k, v, [mask, pair]),
        ("BNQHD", "BNKHD", "BNKHD", "BN11K", "B1HQK"),
        "BNQHD",
    ),
    "triangle_attention": (
        lambda q, k, v, bias: triangle_attention(q, k, v, bias),
        ("BNHQD", "BNHKD", "BNHKD", "B1HQK"),
        "BNHQD",
    ),
    "triangle_attention_with_mask_and_aux": (
        lambda q, k, v, bias: triangle_attention(q, k, v, bias, ones(q, k), return_aux=True)[0],
        ("BNHQD", "BNHKD", "BNHKD", "B1HQK"),
        "BNHQD",
    ),
    "triangle_attention_with_lengths": (
        lambda q, k, v, bias: triangle_attention(q, k, v, bias, kv_lengths=mask_lengths(q)),
        ("BNHQD", "BNHKD", "BNHKD", "B1HQK"),
        "BNHQD",
    ),
    "attention": (
        lambda q, k, v, mask, pair: attention(q, k, v, [mask, pair]),
        ("BNHQD", "BNHKD", "BNHKD", "BN11K", "B1HQK"),
        "BNHQD",
    ),
    "evo_attention_templates": (
        lambda q, k, v, mask, pair: evo_attention(q, k, v, [mask, pair]),
        ("B3NHQD", "B3NHKD", "B3NHKD", "B1N11K", "13 1HQK".replace(" ", "")),
        "B3NQHD",
    ),
    "attention_in_a_loop": (  # no one fold serves both biases
        lambda q, k, v, mask, pair: attention(q, k, v, [mask, pair]),
        ("3BNHQD", "3BNHKD", "3BNHKD", "1B1HQK", "31N11K"),
        "3BNHQD",
    ),
}
every_call = pytest.mark.parametrize("call, letters, out", CALLS.values(), ids=CALLS.keys())


def ones(q, k):
    return torch.ones(*q.shape[:2], 1, 1, k.shape[-2], dtype=torch.bool, device=q.device)


def mask_lengths(q):
    return torch.zeros(*q.shape[:2], 1, 1, 1, dtype=torch.int32, device=q.device)


def shape(letters: str, empty: str) -> list[int]:
    return [0 if letter == empty else SIZES.get(letter) or int(letter) for letter in letters]


def arguments(letters, empty: str, device="cpu", dtype=torch.float64) -> list[torch.Tensor]:
    return [torch.randn(shape(x, empty), dtype=dtype, device=device, requires_grad=True) for x in letters]


@pytest.mark.parametrize("empty", "BNHQ")
@pytest.mark.parametrize("device", ["cpu", "meta"])
@every_call
def test_results_and_gradients(call, letters, out, device, empty):
    for dtype in (torch.float64, torch.float32, torch.bfloat16) if device == "cpu" else (torch.float32,):
        leaves = arguments(letters, empty, device, dtype)
        result = call(*leaves)
        assert list(result.shape) == shape(out, empty) and result.numel() == 0
        grads = torch.autograd.grad(result.sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(grad.square().sum() for grad in grads), leaves, allow_unused=True)
        for leaf, grad, more in zip(leaves, grads, second, strict=True):
            assert grad.shape == leaf.shape and grad.dtype == leaf.dtype
            assert device == "meta" or torch.count_nonzero(grad) == 0
            assert device == "meta" or more is None or torch.count_nonzero(more) == 0


@pytest.mark.parametrize("empty", "BNHQ")
@every_call
def test_compiled(call, letters, out, empty):
    torch._dynamo.reset()
    leaves = arguments(letters, empty)
    result = torch.compile(call, fullgraph=True, backend="aot_eager")(*leaves)
    assert list(result.shape) == shape(out, empty)
    for leaf, grad in zip(leaves, torch.autograd.grad(result.sum(), leaves), strict=True):
        assert grad.shape == leaf.shape and torch.count_nonzero(grad) == 0


@pytest.mark.parametrize("empty", "BNHQ")
@every_call
def test_vmap_over_empty_examples(call, letters, out, empty):
    leaves = arguments(letters, empty)
    result = torch.func.vmap(call, in_dims=(0,) + (None,) * (len(leaves) - 1))(
        torch.stack([leaves[0]] * 3), *leaves[1:]
    )
    assert list(result.shape) == [3, *shape(out, empty)]
    grads = torch.autograd.grad(result.sum(), leaves)
    assert all(torch.count_nonzero(grad) == 0 and grad.shape == x.shape for x, grad in zip(leaves, grads, strict=True))


@every_call
def test_vmap_over_no_examples(call, letters, out):
    leaves = arguments(letters, "-")
    for mapped in range(len(leaves)):
        in_dims = tuple(0 if i == mapped else None for i in range(len(leaves)))
        args = [x.new_empty(0, *x.shape) if i == mapped else x for i, x in enumerate(leaves)]
        assert list(torch.func.vmap(call, in_dims=in_dims)(*args).shape) == [0, *shape(out, "-")]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@every_call
def test_no_keys_and_no_head_dim_stay_errors(call, letters, out, device):
    for empty, message in (("K", "expected Lk to be at least 1"), ("D", "expected D to be at least 1")):
        with pytest.raises(RuntimeError, match=rf"\[evoformer_attention\] {message}, got [kq] of shape"):
            call(*arguments(letters, empty, device))


def test_a_leading_dimension_of_openfold():
    for lead in ((0,), (2, 0), (0, 2, 3), (2, 0, 3), (2, 3, 0, 1)):
        q, k = (torch.randn(*lead, 2, length, 8, requires_grad=True) for length in (4, 5))
        bias = torch.randn(2, 4, 5, requires_grad=True)
        for call, expected in ((attention, q.shape), (evo_attention, q.transpose(-2, -3).shape)):
            result = call(q, k, k, [bias])
            assert result.shape == expected
            grads = torch.autograd.grad(result.sum(), (q, k, bias))
            assert grads[2].shape == bias.shape and torch.count_nonzero(grads[2]) == 0


def test_mask_to_kv_lengths_of_no_rows():
    assert mask_to_kv_lengths(torch.ones(0, 3, 1, 1, 5)).shape == (0, 3, 1, 1, 1)
