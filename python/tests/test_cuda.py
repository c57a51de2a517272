"""What is particular to CUDA: streams, graphs, devices, memory, far offsets. Whatever holds on any device is in the
other modules, whose tests run on both."""

import pytest
import torch
from attention import Case, check_accuracy, cotangents, eager_function, fp64, longfold_function, make_inputs, run

from longfold import evoformer_attention
from longfold.cuequivariance import triangle_attention

CASE = Case("cuda", b=2, n=5, lq=37, lk=50, h=2, d=16)


@pytest.fixture(autouse=True)
def on_cuda(no_cuda):
    if no_cuda:
        pytest.skip(no_cuda)
    torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)


def same(results, expected):
    for name, value in expected.items():
        assert torch.equal(results[name], value) and value.count_nonzero() > 0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_cpu_agrees(dtype):
    """Both by the formula in fp64, so they are as far apart as their errors at most."""
    inputs, cotangent = make_inputs(CASE, dtype), cotangents(CASE, dtype)
    on_cpu = run(longfold_function, {n: t.cpu() for n, t in inputs.items()}, cotangent.cpu())
    tolerance = {torch.float32: 4e-6, torch.bfloat16: 2e-2, torch.float64: 1e-13}[dtype]
    for name, value in run(longfold_function, inputs, cotangent).items():
        assert value.is_cuda
        difference = (value.cpu().double() - on_cpu[name].double()).abs().max()
        assert difference <= tolerance * on_cpu[name].double().abs().max(), (name, difference)


def test_another_stream():
    """Inputs that a stream writes late are read late: a kernel on another stream would see zeros."""
    inputs, cotangent = make_inputs(CASE, torch.bfloat16), cotangents(CASE, torch.bfloat16)
    expected = run(longfold_function, inputs, cotangent)
    late = {name: torch.zeros_like(value) for name, value in inputs.items()}
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        for name, value in inputs.items():
            late[name].copy_(value)
        results = run(longfold_function, late, cotangent)
    stream.synchronize()
    same(results, expected)


@pytest.mark.parametrize("biases", ["mask and pair", "every kind"])
def test_a_graph_is_captured_and_sees_new_inputs(biases):
    first, second = (make_inputs(CASE, torch.bfloat16, torch.float32, seed=seed) for seed in (1, 2))
    if biases == "every kind":
        for seed, inputs in enumerate((first, second)):
            inputs["general"] = torch.randn(CASE.shape("general")) * (seed + 1)
            inputs["shift"] = torch.randn(5, 1, 37, 1) * (seed + 1)
            inputs["shared"] = torch.randn(37, 50) * (seed + 1)
    cotangent = cotangents(CASE, torch.bfloat16)

    def function(x):
        q, k, v, *rest = x.values()
        out, lse = evoformer_attention(q, k, v, rest, return_lse=True)
        return out + lse.transpose(2, 3)[..., None].to(out.dtype)

    expected = [run(function, inputs, cotangent) for inputs in (first, second)]
    static = {name: value.clone() for name, value in first.items()}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as torch wants it: what is made at first use is made before
        run(function, static, cotangent)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run(function, static, cotangent)
    for inputs, right in zip((second, first), reversed(expected), strict=True):
        for name, value in inputs.items():
            static[name].copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        same(results, right)


def test_nothing_waits_for_the_device():
    inputs, cotangent = make_inputs(CASE, torch.bfloat16), cotangents(CASE, torch.bfloat16)
    shift = torch.randn(5, 1, 37, 1)

    def function(x):
        return evoformer_attention(x["q"], x["k"], x["v"], [x["mask"], x["pair"], shift], fully_masked="mean")

    run(function, inputs, cotangent)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(function, inputs, cotangent)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU here, not two")
def test_another_device_than_the_current_one():
    inputs, cotangent = make_inputs(CASE, torch.bfloat16), cotangents(CASE, torch.bfloat16)
    expected = run(longfold_function, inputs, cotangent)
    assert torch.cuda.current_device() == 0
    results = run(longfold_function, {n: t.to("cuda:1") for n, t in inputs.items()}, cotangent.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    assert all(value.device == torch.device("cuda:1") for value in results.values())
    same({name: value.to("cuda:0") for name, value in results.items()}, expected)


def test_messages():
    x = make_inputs(CASE, torch.float32)
    for name, message in {
        "k": "expected k on the device of q, cuda:0, got cpu",
        "pair": "expected biases[1] on the device of q, cuda:0, got cpu",
    }.items():
        with pytest.raises(RuntimeError) as error:
            longfold_function(x | {name: x[name].cpu()})
        assert str(error.value) == f"[evoformer_attention] {message}"
    with pytest.raises(ValueError) as error:
        evoformer_attention(x["q"], x["k"], x["v"], [x["mask"]] * 17)
    assert str(error.value) == (
        "[evoformer_attention] expected at most 16 biases on CUDA, got 17; add up those of the same shape"
    )
    assert evoformer_attention(x["q"], x["k"], x["v"], [x["mask"]] * 16).isfinite().all()


@pytest.mark.parametrize("dims", [(0, 3, 5, 2), (2, 0, 5, 2), (2, 3, 0, 2), (2, 3, 5, 0)], ids=str)
def test_empty_batches(dims):
    b, n, lq, h = dims
    q, k, v = (torch.randn(b, n, length, h, 8, requires_grad=True) for length in (lq, 7, 7))
    pair = torch.randn(1, 1, 1, lq, 7, requires_grad=True)
    mask = torch.randn(7, requires_grad=True)
    out, lse = evoformer_attention(q, k, v, [pair, mask], return_lse=True)
    assert out.shape == q.shape and lse.shape == (b, n, h, lq)
    for leaf, grad in zip((q, k, v, pair, mask), torch.autograd.grad(out.sum(), (q, k, v, pair, mask)), strict=True):
        assert grad.shape == leaf.shape and not grad.any()


def test_lengths_of_keys_that_are_not_known_on_the_host():
    q, k, v = torch.randn(2, 3, 2, 5, 8), torch.randn(2, 3, 2, 7, 8), torch.randn(2, 3, 2, 7, 8)
    bias = torch.randn(2, 1, 2, 5, 7)
    lengths = torch.tensor([[1, 4, 7], [7, 2, 0]], dtype=torch.int32)[:, :, None, None, None]
    got = triangle_attention(q, k, v, bias, kv_lengths=lengths)
    expected = triangle_attention(q, k, v, bias, torch.arange(7) < lengths)
    expected[1, 2] = 0  # no key: zero, where a mask gives the mean of v
    assert torch.equal(got, expected)


def extra_peak(function):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before, result


def test_memory():
    """Beyond outputs and gradients: log-sum-exp and its correction, then in 16 bytes a query log-sum-exp and delta, the
    sums of a mask gradient, up to 8 fp32 copies of a pair gradient. The logits would be 128 MiB."""
    b, n, length, h, d = 1, 32, 512, 4, 32
    q, k, v = (torch.randn(b, n, length, h, d, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    mask = torch.randn(b, n, 1, 1, length, requires_grad=True)
    pair = torch.randn(b, 1, h, length, length, requires_grad=True)
    rows = b * n * h * length * 4
    wide, slack = b * n * length * h * d * 2, 1 << 20
    forward, out = extra_peak(lambda: evoformer_attention(q, k, v, [mask, pair]))
    assert forward <= wide + 2 * rows + slack, (forward, wide, rows)
    grad = torch.randn_like(out)
    backward, _ = extra_peak(lambda: torch.autograd.grad(out, (q, k, v, mask, pair), grad))
    pair_bytes = h * length * length * 4
    assert backward <= 3 * wide + 9 * pair_bytes + 5 * rows + slack, (backward, wide, pair_bytes)
    assert backward < b * n * h * length * length * 4


def test_rows_of_73728_keys_with_a_bias():
    """5.4e9 logits: an index of 32 bits is back at the first row from row 58,254 on."""
    length, d = 73_728, 8
    if torch.cuda.mem_get_info()[0] < 32 << 30:
        pytest.skip("needs 32 GiB of device memory")
    q, k, v, cotangent = (torch.randn(1, 1, length, 1, d, dtype=torch.bfloat16) for _ in range(4))
    bias = torch.empty(1, 1, 1, length, length, dtype=torch.bfloat16).normal_()
    inputs = {"q": q, "k": k, "v": v}
    with torch.no_grad():
        out = evoformer_attention(q, k, v, [bias])
    for first in (0, 29_120, 58_240, length - 32):
        rows = slice(first, first + 32)
        part = inputs | {"q": q[:, :, rows], "pair": bias[..., rows, :]}
        exact, eager = eager_function(fp64(part)), eager_function(part)
        check_accuracy("out", out[:, :, rows], exact, eager, 0)
        assert exact.abs().max() > 0.01
    leaves = [x.requires_grad_() for x in (q, k, v)]
    grads = torch.autograd.grad(evoformer_attention(*leaves, [bias]), leaves, cotangent)
    rows = slice(58_240, 58_272)
    part = {"q": q[:, :, rows].detach(), "k": k.detach(), "v": v.detach(), "pair": bias[..., rows, :]}

    def grad_q(x):
        return torch.autograd.grad(eager_function(x), x["q"], cotangent[:, :, rows].to(x["q"].dtype))[0]

    exact, eager = (grad_q(x | {"q": x["q"].requires_grad_()}) for x in (fp64(part), part))
    check_accuracy("grad_q", grads[0][:, :, rows], exact, eager, 0)
