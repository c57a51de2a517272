"""The memory meter from Python, and what it says about the op: extra memory as promised, inputs never copied."""

import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent

# The meter counts from its installation on, for the whole process: each test is a process of its own.
PREPARE = f"""
import sys
sys.path.insert(0, {str(PACKAGE)!r})
import torch
from longfold import evoformer_attention
from longfold.memory import MemoryMeter
MemoryMeter()
torch.set_num_threads(2)
MIB = 1 << 20
def size(*tensors): return sum(t.numel() * t.element_size() for t in tensors)
"""


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", PREPARE + code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_meter_counts_what_tensors_ask_for():
    run_python("""
with MemoryMeter() as meter:
    kept = torch.empty(1000)
    gone = torch.empty(5000)
    del gone
    assert meter.live - meter.start == 4000
after = torch.empty(100_000)
assert meter.extra_peak == 24000, meter.extra_peak
""")


def test_meter_of_cuda(no_cuda):
    if no_cuda:
        pytest.skip(no_cuda)
    run_python("""
before = torch.empty(1 << 20, device="cuda")
with MemoryMeter("cuda") as meter:
    kept = torch.empty(1 << 20, device="cuda")
    gone = torch.empty(4 << 20, device="cuda")
    del gone
    assert meter.live - meter.start == 4 * MIB
    on_the_cpu = torch.empty(64 << 20)
after = torch.empty(100 << 20, device="cuda")
assert meter.start == 4 * MIB and meter.extra_peak == 20 * MIB, (meter.start, meter.extra_peak)
""")


def test_meter_of_no_such_device():
    run_python("""
try:
    MemoryMeter("meta")
    raise AssertionError("made")
except ValueError as error:
    assert str(error) == "[MemoryMeter] expected a device cpu or cuda, got meta"
""")


def test_meters_may_not_nest_and_say_so():
    run_python("""
with MemoryMeter() as outer:
    kept = torch.empty(50_000)
    del kept
    for inner in (MemoryMeter(), outer):
        try:
            with inner:
                raise AssertionError("entered")
        except RuntimeError as error:
            assert str(error) == "[MemoryMeter] expected blocks that follow each other, got one inside another"
assert outer.extra_peak == 200_000, outer.extra_peak
try:
    with outer:
        raise KeyError
except KeyError:
    pass
with MemoryMeter() as after:
    kept = torch.empty(1000)
assert after.extra_peak == 4000, after.extra_peak
""")


# Long enough that the logits would be 32 times the promise.
SHAPES = """
B, N, L, H, D = 1, 32, 512, 4, 16
q, k, v = (torch.randn(B, N, L, H, D, dtype=dtype, requires_grad=True) for _ in range(3))
mask, pair = torch.randn(B, N, 1, 1, L, requires_grad=True), torch.randn(B, 1, H, L, L, requires_grad=True)
grad = torch.randn(B, N, L, H, D, dtype=dtype)
"""


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_extra_memory_is_as_promised(dtype):
    """Beyond outputs and gradients: log-sum-exp, delta, 4 MiB for each thread, 8 fp32 copies of the pair gradient."""
    run_python(f"""
dtype = {dtype}
{SHAPES}
rows = B * N * H * L * 4
with MemoryMeter() as meter:
    out = evoformer_attention(q, k, v, [mask, pair])
assert meter.extra_peak <= size(out) + rows + 2 * 4 * MIB, meter.extra_peak / MIB
with MemoryMeter() as meter:
    out.backward(grad)
gradients = size(q, k, v, mask, pair)
mask_per_head = B * N * H * L * 4
allowed = gradients + rows + 2 * 4 * MIB + 8 * size(pair) + mask_per_head
assert meter.extra_peak <= allowed, (meter.extra_peak / MIB, allowed / MIB)
assert allowed < B * N * H * L * L * 4
""")


@pytest.mark.parametrize("shape", [(1, 64, 1, 2048, 16, 8), (4, 16, 4, 1024, 8, 8), (1, 64, 32, 128, 4, 32)], ids=str)
def test_extra_memory_is_as_promised_for_few_queries(shape):
    """The copies of the pair gradient are of whole vectors of 16 queries: at most 8 of these, or one."""
    run_python(f"""
B, N, Lq, Lk, H, D = {shape}
q = torch.randn(B, N, Lq, H, D, requires_grad=True)
k, v = (torch.randn(B, N, Lk, H, D, requires_grad=True) for _ in range(2))
pair = torch.randn(B, 1, H, Lq, Lk, requires_grad=True)
out = evoformer_attention(q, k, v, [pair])
grad = torch.randn_like(out)
with MemoryMeter() as meter:
    out.backward(grad)
copies = max(8 * Lq, 16) * B * H * Lk * 4
allowed = size(q, k, v, pair) + 2 * 4 * MIB + copies
assert meter.extra_peak <= allowed, (meter.extra_peak / MIB, allowed / MIB)
""")


def test_views_are_not_copied():
    run_python("""
B, N, L, H, D = 2, 64, 64, 2, 64
base = torch.randn(1, D, L, H, N)
q = base.permute(0, 4, 2, 3, 1).expand(B, N, L, H, D)
pair = torch.randn(1, L, L, H).permute(0, 3, 2, 1)[:, None].expand(B, N, H, L, L)
mask = torch.randn(1, L, N).transpose(1, 2)[:, :, None, None].expand(B, N, H, L, L)

def extra(*x):
    with torch.no_grad(), MemoryMeter() as meter:
        evoformer_attention(x[0], x[1], x[2], x[3:])
    return meter.extra_peak
views, copies = extra(q, q, q, mask, pair), extra(*(x.contiguous() for x in (q, q, q, mask, pair)))
assert views == copies, (views, copies)
assert size(q) < views < 2 * size(q)
""")
