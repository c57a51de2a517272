"""Compiled functions whose arguments change in place before the backward pass. torch notices where the graph saved the
tensor, not where it saved a view of it: the names that take heads first hand on the caller's own tensors."""

import pytest
import torch
from attention import seeded

from longfold import evoformer_attention
from longfold.cuequivariance import triangle_attention
from longfold.deepspeed4science import DS4Sci_EvoformerAttention
from longfold.openfold import attention, evo_attention

pytestmark = pytest.mark.usefixtures("device")

SHAPE = (2, 3, 4, 4, 8)  # as many heads as queries: for either order
CALLS = {
    "evoformer_attention": lambda q, k, v, pair, mask: evoformer_attention(q, k, v, [mask, pair]),
    "DS4Sci_EvoformerAttention": lambda q, k, v, pair, mask: DS4Sci_EvoformerAttention(q, k, v, [mask, pair]),
    "triangle_attention": lambda q, k, v, pair, mask: triangle_attention(q, k, v, pair, mask > 0),
    "attention": lambda q, k, v, pair, mask: attention(q, k, v, [mask, pair]),
    "evo_attention": lambda q, k, v, pair, mask: evo_attention(q, k, v, [mask, pair]),
}


def inputs(four: bool = False):
    generator = seeded(1)
    tensors = [torch.randn(s, generator=generator) for s in (SHAPE, SHAPE, SHAPE, (2, 1, 4, 4, 4), (2, 3, 1, 1, 4))]
    return [(x[0] if four else x).requires_grad_() for x in tensors]


def raises_after(function, tensors, changed, backend="inductor"):
    """Whether the backward pass raises after `changed`, an index of the arguments, or "out", changed in place."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    args = [x * 1 for x in tensors]
    out = compiled(*args)
    with torch.no_grad():
        (out if changed == "out" else args[changed]).add_(1)
    try:
        torch.autograd.grad(out.sum(), tensors, allow_unused=True)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return True
    return False


def slow_if(slow: bool, *values, **kwargs):
    return pytest.param(*values, marks=[pytest.mark.nightly] if slow else [], **kwargs)


@pytest.mark.parametrize("name", [slow_if(name == "evo_attention", name) for name in CALLS])
def test_an_argument_that_changed_raises(name):
    changed = range(4 if name == "triangle_attention" else 5)
    assert all(raises_after(CALLS[name], inputs(), i) for i in changed)


@pytest.mark.parametrize(
    "call", [slow_if(False, attention, id="attention"), slow_if(True, evo_attention, id="evo_attention")]
)
def test_fewer_leading_dimensions(call):
    def function(q, k, v, pair, mask):
        return call(q, k, v, [mask, pair])

    assert all(raises_after(function, inputs(four=True), i) for i in range(5))


@pytest.mark.nightly
def test_triangle_attention_without_batch():
    def function(q, k, v, pair, mask):
        return triangle_attention(q, k, v, pair, mask > 0)

    assert all(raises_after(function, inputs(four=True), i) for i in range(4))


@pytest.mark.parametrize(
    "name", ["evoformer_attention", "DS4Sci_EvoformerAttention", "triangle_attention", "attention"]
)
def test_an_output_that_changed_raises(name):
    assert raises_after(CALLS[name], inputs(), "out")


def test_what_stays():
    """torch's fault with views that the caller makes within the compiled function, with those that three leading
    dimensions need, and with an output that is a view: docs/known-limits.md. Where this fails, take it from there."""

    def own_views(q, k, v, pair, mask):
        return evoformer_attention(q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3), [mask, pair])

    def templates(q, k, v, pair, mask):
        return attention(q, k, v, [mask, pair])

    assert not raises_after(own_views, inputs(), 0)
    assert not raises_after(templates, [x.detach()[None].requires_grad_() for x in inputs()], 0)
    assert not raises_after(CALLS["evo_attention"], inputs(), "out")
