"""Second derivatives, and third ones: of both results, to every input, against finite differences and eager torch."""

import pytest
import torch
from attention import Case, check_accuracy, cotangents, fp64, make_inputs, run, seeded
from test_memory import run_python

from longfold import evoformer_attention

pytestmark = pytest.mark.usefixtures("device")

CASE = Case("double", b=2, n=2, lq=3, lk=2, h=2, d=2)
GENERAL = (2, 2, 1, 3, 2)  # varies over rows and queries, shared by heads


def inputs(dtype=torch.float64, case=CASE, general=GENERAL):
    generator = seeded(4)
    x = make_inputs(case, dtype)
    with torch.no_grad():
        x["mask"].clamp_(min=-2)  # finite differences of a masked key say nothing
    x |= {"general": torch.randn(general, generator=generator).to(dtype)}
    return {name: value.requires_grad_() for name, value in x.items()}


def gradgradcheck(function, x, seed=2):
    """To the inputs and to the gradients of the outputs."""
    outputs = function(*x)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = seeded(seed)
    grads = [torch.randn(o.shape, generator=generator, dtype=o.dtype).requires_grad_() for o in outputs]
    return torch.autograd.gradgradcheck(function, x, grads)


def attention(*x, **options):
    return evoformer_attention(*x[:3], x[3:], **options)


@pytest.mark.parametrize("return_lse", [False, True])
def test_gradgradcheck(return_lse):
    assert gradgradcheck(lambda *x: attention(*x, scale=0.7, return_lse=return_lse), list(inputs().values()))


def test_gradgradcheck_without_biases():
    assert gradgradcheck(lambda *x: attention(*x, return_lse=True), list(inputs().values())[:3])


def test_gradgradcheck_of_a_bias_alone():
    """The other arguments are constants, and q, k, v have no gradients that could be differentiated."""
    q, k, v, mask, pair, general = (value.detach() for value in inputs().values())

    def function(pair):
        return evoformer_attention(q, k, v, [mask, pair, general])

    assert gradgradcheck(function, [pair.requires_grad_()])


@pytest.mark.parametrize("masked_value", [-1e9, -float("inf")])
def test_gradgradcheck_with_rows_that_give_zero(masked_value):
    """Query 1 of row 0 sees no key: nothing may flow through it, and nothing be NaN."""
    hidden = torch.zeros(CASE.n, 1, CASE.lq, 1, dtype=torch.float64)
    hidden[0, :, 1] = masked_value
    x = list(inputs().values())
    assert gradgradcheck(lambda *x: attention(*x, hidden, return_lse=True), x)


@pytest.mark.parametrize("masked_value", [-1e9, -float("inf")])
def test_rows_that_give_the_mean(masked_value):
    """The weights of a fully masked row are uniform, and move as softmax moves there: so does a row of equal logits."""
    case = Case("mean", b=1, n=2, lq=3, lk=4, h=2, d=2)
    x = inputs(case=case, general=(2, 1, 3, 4))
    hidden = torch.zeros(case.n, 1, case.lq, 1, dtype=torch.float64)
    hidden[0, :, 1] = masked_value
    rows = hidden[..., 0, :].new_zeros(1, case.n, case.h, case.lq, dtype=torch.bool)
    rows[:, 0, :, 1] = True

    def ours(x):
        return attention(*x.values(), hidden, fully_masked="mean")

    def uniform(x):
        logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * case.d**-0.5
        logits = logits + x["mask"] + x["pair"] + x["general"]
        logits = torch.where(rows[..., None], logits - logits.detach(), logits)
        return torch.einsum("bnhij,bnjhd->bnihd", logits.softmax(-1), x["v"])

    for value, expected in zip(orders(ours, x, 3), orders(uniform, x, 3), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


def test_gradgradcheck_with_rows_that_give_the_mean():
    """To v and the gradients: finite differences of the logits do not move weights that are uniform by decree."""
    q, k, v, mask, pair, general = (value.detach() for value in inputs().values())
    mask[0, 0] = -1e9

    def function(v):
        return evoformer_attention(q, k, v, [mask, pair, general], fully_masked="mean")

    assert gradgradcheck(function, [v.requires_grad_()])


def orders(function, x, num):
    """The output, and every gradient of the first `num` orders of a scalar that depends on all of the one before."""
    leaves = list(x.values())
    generator = seeded(9)
    current, results = [function(x)], []
    for order in range(num):
        weights = [torch.randn(c.shape, generator=generator, dtype=torch.float64).to(c.dtype) for c in current]
        total = sum((c * w).sum() + c.square().sum() for c, w in zip(current, weights, strict=True))
        current = list(torch.autograd.grad(total, leaves, create_graph=order + 1 < num))
        results += current
    return results


def eager(x):
    logits = torch.einsum("bnihd,bnjhd->bnhij", x["q"], x["k"]) * x["q"].shape[-1] ** -0.5
    logits = logits.to(torch.promote_types(x["q"].dtype, torch.float32))
    logits = logits + x["mask"] + x["pair"] + x["general"]
    return torch.einsum("bnhij,bnjhd->bnihd", logits.softmax(-1).to(x["q"].dtype), x["v"])


def test_three_orders_in_fp64():
    x = inputs()
    results = orders(lambda x: attention(*x.values()), x, 3)
    for value, expected in zip(results, orders(eager, x, 3), strict=True):
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_accuracy(dtype):
    """The gradient of a projection of the gradients, under the accuracy rule."""
    case = Case("accuracy", b=2, n=4, lq=19, lk=23, h=2, d=8)
    x = {name: value.detach() for name, value in inputs(dtype, case, (2, 4, 1, 19, 23)).items()}
    cotangent = cotangents(case, dtype)
    generator = seeded(7)
    directions = {name: torch.randn(value.shape, generator=generator).to(dtype) for name, value in x.items()}

    def second(function, x, cotangent):
        def projection(leaves):
            grads = torch.autograd.grad(function(leaves), list(leaves.values()), cotangent, create_graph=True)
            projected = ((g * d.to(g.dtype)).sum() for g, d in zip(grads, directions.values(), strict=True))
            return sum(p.double() for p in projected)

        return run(projection, x, torch.ones((), dtype=torch.float64))

    got, plain = second(lambda x: attention(*x.values()), x, cotangent), second(eager, x, cotangent)
    exact = second(eager, fp64(x), cotangent.double())
    for name in x:
        value = exact[f"grad_{name}"]
        assert value.abs().max() > 0.1, name
        floor = 2 * torch.finfo(torch.float32).eps * value.abs().max().item()
        check_accuracy(name, got[f"grad_{name}"], value, plain[f"grad_{name}"], floor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_create_graph_does_not_change_bits(dtype):
    x = inputs(dtype)
    cotangent = cotangents(CASE, dtype)
    plain = torch.autograd.grad(attention(*x.values()), list(x.values()), cotangent)
    for value, expected in zip(
        torch.autograd.grad(attention(*x.values()), list(x.values()), cotangent, create_graph=True), plain, strict=True
    ):
        assert torch.equal(value, expected) and value.requires_grad and value.abs().max() > 0


def test_the_graph_of_a_second_derivative_is_freed():
    x = inputs()
    (grad,) = torch.autograd.grad(attention(*x.values()).sum(), x["v"], create_graph=True)
    grad.square().sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        grad.square().sum().backward()


def test_in_place_change_before_the_second_derivative_is_noticed():
    x = inputs()
    (grad,) = torch.autograd.grad(attention(*x.values()).square().sum(), x["q"], create_graph=True)
    with torch.no_grad():
        x["k"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad.sum().backward()


def test_hessian_by_torch_func():
    """Nested transforms, a vmap of a second derivative among them."""
    x = inputs()
    q, *others = (value.detach() for value in x.values())

    def loss(q):
        return attention(q, *others).square().sum()

    hessian = torch.func.jacrev(torch.func.grad(loss))(q)
    names = list(x)[1:]

    def eager_loss(q):
        return eager({"q": q} | dict(zip(names, others, strict=True))).square().sum()

    expected = torch.autograd.functional.hessian(eager_loss, q)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(hessian, expected, rtol=1e-10, atol=1e-10)


def test_autocast_does_not_round_it():
    x = inputs(torch.float32)

    def second(autocast_after):
        (grad,) = torch.autograd.grad(attention(*x.values()).square().sum(), x["q"], create_graph=True)
        with torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16, enabled=autocast_after):
            return torch.autograd.grad(grad, x["k"], torch.ones_like(grad))[0]

    assert torch.equal(second(True), second(False))


@pytest.mark.cpu_only
def test_a_first_derivative_still_needs_no_logits():
    """create_graph keeps what a second derivative would need, and computes none of it."""
    run_python("""
B, N, L, H, D = 1, 16, 512, 4, 16
q, k, v = (torch.randn(B, N, L, H, D, requires_grad=True) for _ in range(3))
out = evoformer_attention(q, k, v)
grad = torch.randn_like(out)
with MemoryMeter() as meter:
    grads = torch.autograd.grad(out, [q, k, v], grad, create_graph=True)
assert all(g.requires_grad for g in grads)
assert meter.extra_peak <= size(q, k, v) + B * N * H * L * 4 + 2 * 4 * MIB, meter.extra_peak / MIB
""")
