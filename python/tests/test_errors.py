"""One line that names the argument, what was expected and what came."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest
import torch
from attention import Case, make_inputs

from longfold import evoformer_attention

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
CASE = Case("errors", b=2, n=3, lq=5, lk=7, h=2, d=4)


def call(options=None, biases=None, **replaced):
    x = make_inputs(CASE, torch.float32) | {n: t for n, t in replaced.items() if t is not None}
    return evoformer_attention(x["q"], x["k"], x["v"], biases or [x["mask"], x["pair"]], **(options or {}))


WRONG = {
    "q_rank": (
        {"q": torch.zeros(3, 5, 2, 4)},
        "expected q of shape [B, N, Lq, H, D], got [3, 5, 2, 4]",
    ),
    "k_rows": (
        {"k": torch.zeros(2, 4, 7, 2, 4)},
        "expected k of shape [B, N, Lk, H, D] = [2, 3, 7, 2, 4], got [2, 4, 7, 2, 4]",
    ),
    "v_length": (
        {"v": torch.zeros(2, 3, 6, 2, 4)},
        "expected v of shape [B, N, Lk, H, D] = [2, 3, 7, 2, 4], got [2, 3, 6, 2, 4]",
    ),
    "empty_length": (
        {"k": torch.zeros(2, 3, 0, 2, 4), "v": torch.zeros(2, 3, 0, 2, 4)},
        "expected Lk to be at least 1, got k of shape [2, 3, 0, 2, 4]",
    ),
    "empty_head_dim": (
        {"q": torch.zeros(2, 3, 5, 2, 0), "k": torch.zeros(2, 3, 7, 2, 0), "v": torch.zeros(2, 3, 7, 2, 0)},
        "expected D to be at least 1, got q of shape [2, 3, 5, 2, 0]",
    ),
    "integers": (
        {"q": torch.zeros(2, 3, 5, 2, 4).int()},
        "expected q of dtype float32, bfloat16, float16 or float64, got Int",
    ),
    "mixed_dtypes": (
        {"v": torch.zeros(2, 3, 7, 2, 4).double()},
        "expected v of the dtype of q, Float, got Double",
    ),
    "mixed_devices": (
        {"k": torch.zeros(2, 3, 7, 2, 4, device="meta")},
        "expected k on the device of q, cpu, got meta",
    ),
    "bias_shape": (
        {"pair": torch.zeros(2, 1, 4, 5, 7)},
        "expected biases[1] to broadcast to [B, N, H, Lq, Lk] = [2, 3, 2, 5, 7], got [2, 1, 4, 5, 7]",
    ),
    "bias_rank": (
        {"mask": torch.zeros(1, 2, 3, 1, 1, 7)},
        "expected biases[0] to broadcast to [B, N, H, Lq, Lk] = [2, 3, 2, 5, 7], got [1, 2, 3, 1, 1, 7]",
    ),
    "bias_dtype": (
        {"mask": torch.zeros(2, 3, 1, 1, 7, dtype=torch.int32)},
        "expected biases[0] of dtype float32, float64, bfloat16, float16 or bool, got Int",
    ),
    "bools_that_vary_over_queries": (
        {"pair": torch.ones(2, 1, 1, 5, 7, dtype=torch.bool)},
        "expected biases[1] of dtype bool to be the same for all heads and queries, [B, N, 1, 1, Lk], "
        "got [2, 1, 1, 5, 7]",
    ),
    "bools_that_vary_over_heads": (
        {"mask": torch.ones(2, 1, 7, dtype=torch.bool)},
        "expected biases[0] of dtype bool to be the same for all heads and queries, [B, N, 1, 1, Lk], got [2, 1, 7]",
    ),
    "bias_device": (
        {"pair": torch.zeros(2, 1, 2, 5, 7, device="meta")},
        "expected biases[1] on the device of q, cpu, got meta",
    ),
    "scale": ({"options": {"scale": float("inf")}}, "expected a finite scale, got inf"),
    "fully_masked": (
        {"options": {"fully_masked": "nan"}},
        "expected fully_masked to be 'zero' or 'mean', got 'nan'",
    ),
}


def test_message_for_a_gradient_of_bools():
    x = make_inputs(CASE, torch.float32)
    biases = [torch.ones(7, dtype=torch.bool)]
    out, *statistics = torch.ops.longfold.evoformer_attention(x["q"], x["k"], x["v"], biases)
    with pytest.raises(RuntimeError) as error:
        torch.ops.longfold.evoformer_attention_backward(
            out, None, x["q"], x["k"], x["v"], biases, out, *statistics, bias_needs_grad=[True]
        )
    message = "expected biases[0] of a floating dtype where it needs a gradient, got Bool"
    assert str(error.value) == f"[evoformer_attention] {message}"


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG.keys())
def test_message(arguments, message):
    with pytest.raises(RuntimeError) as error:
        call(**arguments)
    assert str(error.value) == f"[evoformer_attention] {message}"


WRONG_TYPES = {
    "text_for_a_number": ({"scale": "0.5"}, "expected scale to be a number or None, got str"),
    "list_for_a_number": ({"scale": [0.5]}, "expected scale to be a number or None, got list"),
    "tensor_for_a_number": ({"scale": torch.tensor(0.5)}, "expected scale to be a number or None, got a tensor"),
    "none_for_a_name": ({"fully_masked": None}, "expected fully_masked to be 'zero' or 'mean', got NoneType"),
    "number_for_a_name": ({"fully_masked": 1}, "expected fully_masked to be 'zero' or 'mean', got int"),
}


@pytest.mark.parametrize("options, message", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_message_for_a_wrong_type(options, message):
    with pytest.raises(TypeError) as error:
        call(options)
    assert str(error.value) == f"[evoformer_attention] {message}"


def test_a_scale_may_be_an_integer():
    assert torch.equal(call({"scale": 2}), call({"scale": 2.0}))


@pytest.mark.parametrize("isa", ["sse9", "neon" if platform.machine() == "x86_64" else "avx2"])
def test_message_for_a_wrong_instruction_set(isa):
    """It is read once, so the call is in a process of its own."""
    code = "import torch, longfold\nq = torch.zeros(1, 1, 2, 1, 4)\nlongfold.evoformer_attention(q, q, q)"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE), "LONGFOLD_ISA": isa}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    message = f"expected portable, neon, avx2, avx512 or avx512_bf16, got '{isa}'" if isa == "sse9" else None
    message = message or f"this CPU has no {isa}"
    assert result.stderr.strip().endswith(f"\nValueError: [LONGFOLD_ISA] {message}"), result.stderr
