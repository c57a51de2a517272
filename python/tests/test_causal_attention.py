"""Causal attention inside torch: against dense attention, gradcheck, opcheck, compile, autocast, errors."""

import pytest
import torch

from longfold import causal_attention

OPS = torch.ops.longfold
DOCUMENTS = torch.tensor([0, 3, 9, 14, 18])


def tensors(dtype=torch.float64, requires_grad=True):
    generator = torch.Generator().manual_seed(1)

    def random(heads):
        return torch.randn(2, 9, heads, 4, generator=generator, dtype=torch.float64).to(dtype)

    return [random(heads).requires_grad_(requires_grad) for heads in (4, 2, 2)]


def dense(q, k, v, documents, window, scale):
    b, s, h, _ = q.shape
    k, v = (x.repeat_interleave(h // k.shape[2], 2) for x in (k, v))
    token = torch.arange(b * s).view(b, s)
    document = torch.bucketize(token, documents, right=True)
    before = token[:, :, None] - token[:, None, :]
    seen = (document[:, :, None] == document[:, None, :]) & (before >= 0)
    if window > 0:
        seen &= before < window
    logits = torch.einsum("bihd,bjhd->bhij", q, k) * scale
    weights = logits.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v)


@pytest.mark.parametrize("window", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_dense_attention(dtype, window):
    inputs = tensors(dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    out = causal_attention(*inputs, documents=DOCUMENTS, window=window, scale=0.7)
    expected = dense(*exact, DOCUMENTS, window, 0.7)
    tolerance = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
    cotangent = torch.randn(out.shape, dtype=torch.float64).to(dtype)
    grads = torch.autograd.grad(out, inputs, cotangent)
    for grad, right in zip(grads, torch.autograd.grad(expected, exact, cotangent.double()), strict=True):
        torch.testing.assert_close(grad.double(), right, atol=4 * tolerance, rtol=4 * tolerance)


def test_gradcheck():
    def function(q, k, v):
        return causal_attention(q, k, v, documents=DOCUMENTS, window=4, scale=0.7)

    assert torch.autograd.gradcheck(function, tensors())


@pytest.mark.parametrize("first_query", [0, 4, 9])
def test_queries_may_be_a_later_part_than_the_keys(first_query):
    q, k, v = tensors()
    q = q[:, :5].detach().requires_grad_()
    seen = torch.arange(9) <= torch.arange(5)[:, None] + first_query
    keys, values = (x.repeat_interleave(2, 2) for x in (k, v))
    logits = torch.einsum("bihd,bjhd->bhij", q, keys) / 2
    expected = torch.einsum("bhij,bjhd->bihd", logits.masked_fill(~seen, -torch.inf).softmax(-1), values)
    torch.testing.assert_close(causal_attention(q, k, v, first_query=first_query), expected)
    assert torch.autograd.gradcheck(lambda *x: causal_attention(*x, first_query=first_query), (q, k, v))


def test_chunks_merge_to_the_whole():
    """The example of docs/causal.md, in both passes."""
    q, k, v = (x.detach() for x in tensors())
    grad = torch.randn(q.shape, dtype=q.dtype)
    out, lse = OPS.causal_attention(q, k, v)
    right = OPS.causal_attention_backward(grad, q, k, v, out, lse)
    late, early = slice(4, None), slice(None, 4)
    seen = [(early, late.start), (late, 0)]  # keys of the late queries
    parts = [
        causal_attention(q[:, late], k[:, keys], v[:, keys], first_query=place, return_lse=True) for keys, place in seen
    ]
    merged_lse = torch.logaddexp(parts[0][1], parts[1][1])
    merged = sum(part * (part_lse - merged_lse).exp().transpose(1, 2)[..., None] for part, part_lse in parts)
    torch.testing.assert_close(merged, out[:, late])
    torch.testing.assert_close(merged_lse, lse[..., late])
    own = causal_attention(q[:, early], k[:, early], v[:, early], return_lse=True)
    grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
    for queries, keys, place, (part, part_lse) in [
        (early, early, 0, own),
        *((late, keys, place, (merged, merged_lse)) for keys, place in seen),
    ]:
        of_q, of_k, of_v = OPS.causal_attention_backward(
            grad[:, queries], q[:, queries], k[:, keys], v[:, keys], part, part_lse, first_query=place
        )
        grad_q[:, queries] += of_q
        grad_k[:, keys] += of_k
        grad_v[:, keys] += of_v
    for got, expected in zip((grad_q, grad_k, grad_v), right, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(dtype, requires_grad):
    inputs = tensors(dtype, requires_grad)
    tolerance = {"atol": 1e-2, "rtol": 1e-2} if dtype == torch.bfloat16 else {}
    torch.library.opcheck(OPS.causal_attention.default, inputs, **tolerance)
    torch.library.opcheck(OPS.causal_attention.default, inputs, {"documents": DOCUMENTS, "window": 3}, **tolerance)
    later = (inputs[0][:, :5].detach().requires_grad_(requires_grad), *inputs[1:])
    torch.library.opcheck(OPS.causal_attention.default, later, {"first_query": 3}, **tolerance)


def test_opcheck_of_the_backward_op():
    q, k, v = tensors(torch.float32, requires_grad=False)
    out, lse = OPS.causal_attention(q, k, v)
    torch.library.opcheck(OPS.causal_attention_backward.default, (torch.randn_like(out), q, k, v, out, lse))
    with_documents = (torch.randn_like(out), q, k, v, *OPS.causal_attention(q, k, v, documents=DOCUMENTS))
    torch.library.opcheck(OPS.causal_attention_backward.default, with_documents, {"documents": DOCUMENTS})
    later = (q[:, :5], k, v)
    out, lse = OPS.causal_attention(*later, first_query=3)
    torch.library.opcheck(
        OPS.causal_attention_backward.default, (torch.randn_like(out), *later, out, lse), {"first_query": 3}
    )


def test_compile_in_one_graph():
    compiled = torch.compile(lambda q, k, v: causal_attention(q, k, v).sin(), fullgraph=True)
    inputs = tensors(torch.float32)
    grads = torch.autograd.grad(compiled(*inputs).sum(), inputs)
    eager = torch.autograd.grad(causal_attention(*inputs).sin().sum(), inputs)
    for got, expected in zip(grads, eager, strict=True):
        torch.testing.assert_close(got, expected)


def test_autocast_casts_the_inputs():
    q, k, v = tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = causal_attention(q, k, v)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, causal_attention(q.bfloat16(), k.bfloat16(), v.bfloat16()))
    out.float().sum().backward()
    assert q.grad.dtype == torch.float32


def test_the_same_bits_for_any_number_of_threads():
    q, k, v = (torch.randn(1, 700, 2, 32) for _ in range(3))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            inputs = [x.clone().requires_grad_() for x in (q, k, v)]
            out = causal_attention(*inputs)
            results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_errors_name_the_argument():
    q, k, v = tensors(torch.float32)
    with pytest.raises(RuntimeError, match=r"^\[causal_attention\] expected documents from 0 to B \* S = 18, got "):
        causal_attention(q, k, v, documents=torch.tensor([0, 9]))
    with pytest.raises(RuntimeError, match=r"^\[causal_attention\] expected v of shape .* = \[2, 9, 2, 4\], got "):
        causal_attention(q, k, v[:, :8])
    with pytest.raises(RuntimeError, match=r"^\[causal_attention\] expected first_query to be at least 0, got -1"):
        causal_attention(q, k, v, first_query=-1)
    with pytest.raises(RuntimeError, match=r"expected documents and a window only where queries are the tokens of "):
        causal_attention(q, k, v, documents=DOCUMENTS, first_query=9)
    with pytest.raises(TypeError, match=r"^\[causal_attention\] expected documents to be a dense tensor, got list$"):
        causal_attention(q, k, v, documents=[0, 9, 18])
    with pytest.raises(NotImplementedError, match="expected first derivatives alone"):
        torch.autograd.grad(causal_attention(q, k, v).sum(), q, create_graph=True)
