"""The memory promise, by the meter, for every use and every way to lie in memory: nothing is ever copied.

Beyond outputs and gradients there may be log-sum-exp, its correction and delta (fp32, B N H Lq each), 4 MiB for each
thread, and for a pair-bias gradient up to 8 partial fp32 copies of it, of whole vectors of 16 queries.
"""

import pytest
from test_memory import run_python

# The shapes that matter (names, then B, N, Lq, Lk, H, D), scaled down in N and L, and long rows.
SHAPES = {
    "msa_row": (1, 16, 96, 96, 8, 32),
    "msa_column": (1, 96, 16, 16, 8, 32),
    "extra_msa_row": (1, 64, 96, 96, 8, 8),
    "triangle": (1, 128, 128, 128, 4, 32),
    "template_triangle": (2, 64, 64, 64, 4, 16),
    "single": (1, 1, 384, 384, 16, 24),
    "diffusion": (1, 5, 128, 128, 16, 48),
    "atom": (1, 64, 32, 128, 4, 32),
    "long_rows": (1, 8, 512, 512, 4, 16),
    "head_dim_128": (1, 3, 200, 1500, 2, 128),
    "very_long_rows_8": (1, 2, 70, 20000, 1, 8),
    "very_long_rows_32": (1, 2, 3, 8200, 2, 32),
    "very_long_rows_128": (1, 2, 70, 5000, 1, 128),
    "longest_rows_128": (1, 1, 17, 20000, 1, 128),
}
# In fp32 these take long, and what they take is told by bfloat16 too.
SLOW = {
    "diffusion",
    "atom",
    "head_dim_128",
    "very_long_rows_8",
    "very_long_rows_32",
    "very_long_rows_128",
    "longest_rows_128",
}
USES = [
    pytest.param(name, dtype, marks=[pytest.mark.nightly] if name in SLOW and dtype == "torch.float32" else [])
    for name in SHAPES
    for dtype in ("torch.float32", "torch.bfloat16")
]

# How q, k, v (and grad_out), mask and pair lie in memory. Each is made without more memory than its own.
PROGRAM = """
def in_order(shape, order, dtype):
    "A tensor of this shape whose dimensions lie in memory in that order."
    at = [order.index(d) for d in range(len(shape))]
    return torch.randn([shape[d] for d in order], dtype=dtype).permute(at)

def packed(s, dtype):
    return lambda shape: torch.randn(shape, dtype=dtype)

def ending_node(s, dtype):
    "q, k, v with rows and length swapped in memory; the pair bias from [B, Lk, Lq, H]."
    return lambda shape: in_order(shape, (0, 4, 3, 1, 2) if shape[1] == 1 and shape[2] == s['H'] and shape[3:] ==
        (s['Lq'], s['Lk']) else (0, 2, 1, 3, 4), dtype)

def heads_first(s, dtype):
    return lambda shape: in_order(shape, (0, 1, 3, 2, 4), dtype)

def inner_stride(s, dtype):
    "The last dimension outermost in memory."
    return lambda shape: in_order(shape, (4, 0, 1, 2, 3), dtype)

def every_second(s, dtype):
    return lambda shape: torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]

LAYOUTS = ((packed, 'strided'), (packed, 'stride 0'), (ending_node, 'strided'), (heads_first, 'stride 0'),
           (inner_stride, 'strided'), (every_second, 'strided'))

def check(name, what, got, allowed):
    assert got <= allowed, f'{name}, {what}: {got / MIB:.3f} MiB beyond the inputs, allowed {allowed / MIB:.3f}'

def measure(name, B, N, Lq, Lk, H, D, dtype, layout, bias_dtype, grad):
    s = dict(B=B, N=N, Lq=Lq, Lk=Lk, H=H, D=D)
    make, make_bias = layout(s, dtype), layout(s, bias_dtype)
    q, k, v = make((B, N, Lq, H, D)), make((B, N, Lk, H, D)), make((B, N, Lk, H, D))
    mask, pair = make_bias((B, N, 1, 1, Lk)), make_bias((B, 1, H, Lq, Lk))
    leaves = [x.requires_grad_() for x in (q, k, v, mask, pair)]
    statistic, scratch = B * N * H * Lq * 4, torch.get_num_threads() * 4 * MIB
    with MemoryMeter() as forward:
        out = evoformer_attention(q, k, v, [mask, pair])
    check(name, 'forward', forward.extra_peak, size(q) + 2 * statistic + scratch)
    assert forward.live - forward.start == size(q) + 2 * statistic  # all that is kept for the backward pass
    loss, cotangent = (out.sum(), torch.ones((), dtype=dtype)) if grad == 'stride 0' else (out, make(out.shape))
    with MemoryMeter() as meter:
        grads = torch.autograd.grad(loss, leaves, cotangent)
    partials = max(8 * Lq, 16) * B * H * Lk * 4
    head_masks = B * N * H * Lk * 4  # the gradient of the mask before heads are added up
    peaks = forward.extra_peak, meter.extra_peak
    check(name, 'backward', meter.extra_peak, size(*leaves) + statistic + scratch + partials + head_masks)
    assert all(g.is_contiguous() for g in grads)
    del grads
    assert meter.live - meter.start == -2 * statistic  # what was kept is gone, and out, which is held here, is left
    with torch.no_grad(), MemoryMeter() as meter:
        kept = evoformer_attention(q, k, v, [mask, pair])
    assert meter.live - meter.start == size(kept) and kept.grad_fn is None
    return peaks
"""


@pytest.mark.parametrize(("name", "dtype"), USES)
def test_extra_memory(name, dtype):
    """Within the promise, and to the byte what packed tensors take: no copy can hide in what the promise leaves."""
    run_python(f"""{PROGRAM}
peaks = [measure(f'{{layout.__name__}}, {{grad}}', *{SHAPES[name]}, {dtype}, layout, torch.float32, grad)
         for layout, grad in LAYOUTS]
assert len(set(peaks)) == 1, peaks
""")


@pytest.mark.parametrize("name", ["msa_row", "single", "atom"])
def test_extra_memory_with_16_bit_biases(name):
    run_python(f"{PROGRAM}\nmeasure('bf16', *{SHAPES[name]}, torch.bfloat16, packed, torch.bfloat16, 'strided')")


def test_one_bias_for_a_flattened_batch():
    """Stride 0 over a batch of 32: a copy of the pair bias would be 8 MiB, and is not made, whatever its shape."""
    run_python("""
B, L, H, D = 32, 128, 4, 8
q, k, v = (torch.randn(B, 1, L, H, D, requires_grad=True) for _ in range(3))
pair, mask = torch.randn(1, 1, H, L, L), torch.randn(1, 1, 1, 1, L)

def peaks(*biases):
    with MemoryMeter() as forward:
        out = evoformer_attention(q, k, v, biases)
    with MemoryMeter() as backward:
        torch.autograd.grad(out.sum(), (q, k, v))
    return forward.extra_peak, backward.extra_peak
expanded = peaks(mask.expand(B, 1, H, L, L), pair.expand(B, 1, H, L, L))
assert expanded == peaks(mask.expand(B, 1, H, L, L).contiguous(), pair.expand(B, 1, H, L, L).contiguous())
assert max(peaks(mask, pair)) <= max(expanded) < size(q, k, v) + 2 * B * L * H * 4 + 8 * MIB
""")


def test_partial_copies_of_the_gradient_of_a_16_bit_pair_bias():
    """The gradient itself is half of an fp32 copy: 8.5 copies, and scratch."""
    run_python("""
torch.set_num_threads(1)
N, L, H, D = 16, 512, 8, 8
q, k, v = (torch.randn(1, N, L, H, D, requires_grad=True) for _ in range(3))
pair = torch.randn(1, 1, H, L, L, dtype=torch.bfloat16, requires_grad=True)
out = evoformer_attention(q, k, v, [pair])
with MemoryMeter() as meter:
    torch.autograd.grad(out.sum(), (q, k, v, pair))
allowed = size(q, k, v, pair) + N * H * L * 4 + 4 * MIB + 8 * H * L * L * 4
assert meter.extra_peak <= allowed, (meter.extra_peak / MIB, allowed / MIB)
""")
