"""Throws random arguments at both ops and at every public Python function, most of them wrong.

    PYTHONPATH=python python python/tests/fuzz_arguments.py --seed 7 --cases 100000
    PYTHONPATH=python python python/tests/fuzz_arguments.py --seed 7 --only 4711   # one case again

A call must give results of the right shapes, dtypes and devices, or raise a documented exception of one line that
starts with "[". Where an op itself is called with a value of a wrong type, torch's message about its schema will do.
Calls that are right by the rules as written down here again must succeed, and no others may. The work is done in a
process of its own, so that a crash is a finding too. Prints the seed and the case of the first finding; exit code 1.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable

import torch
from torch import Tensor

from longfold import cuequivariance, evoformer_attention, openfold
from longfold.deepspeed4science import DS4Sci_EvoformerAttention

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
OTHERS = (torch.int64, torch.bool, torch.complex64, torch.uint8, torch.float8_e4m3fn)
NOT_TENSORS = (None, 3, 0.5, "q", [1.0, 2.0], [], object())
SCALES = (None, 0.5, 0.0, -2.0, 1e300, 3, float("nan"), float("inf"), "0.5", [0.5])
FULLY_MASKED = ("zero", "mean", "mean", "Zero", "", "zero\0", None, 1)
FOUND = 3  # the child's exit code
SCHEMA = re.compile(r"longfold::evoformer_attention(_backward)?\(\)|Could not run 'longfold::evoformer_attention")


@dataclasses.dataclass
class Call:
    """A function, its arguments by name, and how to judge what it gives."""

    name: str
    function: Callable
    arguments: dict
    check: Callable  # of the arguments and the results; raises AssertionError
    errors: tuple[type, ...]
    is_right: Callable  # of the arguments: True, False, or None where the rules leave it open

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={text(value)}' for name, value in self.arguments.items())})"


def text(value) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(text, value))}]"
    if not isinstance(value, Tensor):
        return repr(value)
    strides = tuple(value.stride()) if value.layout == torch.strided else value.layout
    grad = ", requires_grad" if value.requires_grad else ""
    return f"Tensor({tuple(value.shape)}, strides {strides}, {value.dtype}, {value.device}{grad})"


# Right arguments.


def sizes(rng: random.Random) -> dict[str, int]:
    result = {letter: rng.choice((1, 2, 3)) for letter in "BNHD"}
    result |= {letter: rng.choice((1, 2, 3, 5, 17)) for letter in "QK"}
    if rng.random() < 0.05:
        result[rng.choice("QKD")] = rng.choice((63, 64, 65, 130))
    if rng.random() < 0.1:
        result[rng.choice("BNHDQK")] = 0
    return result


def tensor(rng: random.Random, shape, dtype, device="cpu", requires_grad=False) -> Tensor:
    if dtype.is_floating_point and dtype in FLOATS:
        value = torch.randn(shape, dtype=torch.float32, device=device).to(dtype)
        return value.requires_grad_(requires_grad)
    return torch.zeros(shape, dtype=dtype, device=device)


def right_tensors(rng: random.Random, s: dict[str, int], layout: str) -> dict:
    """q, k, v and up to two biases; `layout` names their dimensions: B N Q H D, or B N H Q D."""
    dtype, device = rng.choice(FLOATS), rng.choice(("cpu", "cpu", "cpu", "meta"))
    grad = device == "cpu" and rng.random() < 0.3

    def make(letters):
        return tensor(rng, [s.get(letter, 1) for letter in letters], dtype, device, grad and rng.random() < 0.7)

    result = {name: make(layout.replace("L", "Q" if name == "q" else "K")) for name in "qkv"}
    biases = [make("BN11K"), make("B1HQK")]
    if rng.random() < 0.2:
        biases = [bias.to(rng.choice(FLOATS)) for bias in biases]
    result["biases"] = biases[: rng.choice((0, 1, 2, 2, 2))]
    return result


def general_bias(rng: random.Random, s: dict[str, int], like: Tensor) -> Tensor:
    shape = [s[letter] if rng.random() < 0.6 else 1 for letter in "BNHQK"]
    return tensor(rng, shape[rng.choice((0, 0, 1, 2, 3)) :], rng.choice(FLOATS), like.device.type)


# Wrong ones.


def change(rng: random.Random, value):
    """The tensor with something else about it: mostly wrong, sometimes merely another way to lie in memory."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return rng.choice(NOT_TENSORS)
    dims = value.dim()
    kinds = ("size", "zero", "rank", "rank", "permute", "expand", "slice", "dtype", "device", "layout", "type")
    kind = rng.choice(kinds)
    if kind == "dtype":
        real = value.detach().real if value.is_complex() else value.detach()
        return real.to(rng.choice(FLOATS + OTHERS))
    if kind == "device":
        return value.detach().to("meta")
    if kind == "type":
        return rng.choice(NOT_TENSORS)
    if kind == "layout" and value.device.type == "cpu" and value.dtype in FLOATS:
        return value.detach().to_sparse() if rng.random() < 0.3 else value.detach()[..., None].transpose(0, -1)[0]
    if kind == "rank" or dims == 0:
        return value[None] if rng.random() < 0.5 or dims == 0 or value.shape[0] == 0 else value[0]
    dim = rng.randrange(dims)
    if kind == "size":
        shape = list(value.shape)
        shape[dim] = rng.choice((1, 2, 4, 5, 18, 64))
        return tensor(rng, shape, value.dtype, value.device.type)
    if kind == "zero":
        return value.narrow(dim, 0, 0)
    if kind == "permute":
        order = list(range(dims))
        rng.shuffle(order)
        return value.permute(order)
    if kind == "slice" and value.shape[dim] > 0:
        wide = value.repeat_interleave(2, dim)  # every second element of something twice as wide: the same values
        return wide.detach()[(slice(None),) * dim + (slice(None, None, 2),)]
    if value.shape[dim] == 1:
        shape = list(value.shape)
        shape[dim] = rng.choice((1, 2, 3))
        return value.expand(shape)
    return value.narrow(dim, 0, 1).expand_as(value) if value.shape[dim] else value


def change_biases(rng: random.Random, biases, s: dict[str, int], like):
    kind = rng.choice(("one", "one", "one", "more", "general", "general", "type", "tuple", "reverse"))
    if kind == "one" and biases:
        i = rng.randrange(len(biases))
        return [*biases[:i], change(rng, biases[i]), *biases[i + 1 :]]
    if kind == "more":
        return [*biases, *biases]
    if kind == "general" and isinstance(like, Tensor):
        return [*biases, general_bias(rng, s, like)]
    if kind == "type":
        return rng.choice((*NOT_TENSORS, iter(biases), dict(enumerate(biases)), biases[0] if biases else None, [None]))
    return tuple(biases) if kind == "tuple" else biases[::-1]


def spoil(rng: random.Random, arguments: dict, s: dict[str, int], options: dict[str, tuple]) -> None:
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 3))):
        name = rng.choice(tuple(arguments))
        if name in options:
            arguments[name] = rng.choice(options[name])
        elif name in ("biases", "bias_needs_grad") and not isinstance(arguments[name], list):
            continue
        elif name == "biases":
            arguments[name] = change_biases(rng, arguments[name], s, arguments.get("q"))
        elif name == "bias_needs_grad":
            arguments[name] = rng.choice(([], [True], [False], [True] * 3, ["yes"], None, [1, 0]))
        else:
            arguments[name] = change(rng, arguments[name])


# What is right.


def is_right(arguments: dict) -> bool | None:
    """The rules of evoformer_attention, written down a second time."""
    q, k, v, biases = (arguments[name] for name in ("q", "k", "v", "biases"))
    if not all(isinstance(x, Tensor) for x in (q, k, v)) or not isinstance(biases, (list, tuple)):
        return False
    if not all(isinstance(x, Tensor) for x in biases):
        return False
    if any(x.layout != torch.strided for x in (q, k, v, *biases)):
        return False
    if q.dim() != 5 or k.dim() != 5 or k.shape != v.shape or 0 in (k.shape[2], q.shape[4]) or q.dtype not in FLOATS:
        return False
    if {k.dtype, v.dtype} != {q.dtype} or {x.device for x in (k, v, *biases)} != {q.device}:
        return False
    (b, n, lq, h, d), lk = q.shape, k.shape[2]
    if k.shape != (b, n, lk, h, d):
        return False
    for bias in biases:
        aligned = zip(reversed(bias.shape), (lk, lq, h, n, b), strict=False)
        if bias.dtype not in (*FLOATS, torch.bool) or bias.dim() > 5:
            return False
        if any(size not in (1, full) for size, full in aligned):
            return False
        if bias.dtype == torch.bool and any(size != 1 for size in bias.shape[-3:-1]):
            return False
    scale = arguments.get("scale")
    if isinstance(scale, (str, list)) or arguments.get("fully_masked", "zero") not in ("zero", "mean"):
        return False
    return scale is None or math.isfinite(scale)


def like(value: Tensor, shape, dtype: torch.dtype, device: torch.device) -> None:
    assert tuple(value.shape) == tuple(shape), f"expected a result of shape {tuple(shape)}, got {tuple(value.shape)}"
    assert value.dtype == dtype and value.device == device, f"got a result of {value.dtype} on {value.device}"


def sums(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_gradients(arguments: dict, out: Tensor) -> None:
    leaves = [x for x in (*arguments.values(), *(arguments.get("biases") or ())) if isinstance(x, Tensor)]
    leaves = [x for x in leaves if x.requires_grad]
    assert out.requires_grad == bool(leaves)
    if leaves:
        for leaf, grad in zip(leaves, torch.autograd.grad(out.sum(), leaves, allow_unused=True), strict=True):
            if grad is not None:
                like(grad, leaf.shape, leaf.dtype, leaf.device)


def check_attention(a: dict, results) -> None:
    q = a["q"]
    out, lse = results if a.get("return_lse") else (results, None)
    like(out, q.shape, q.dtype, q.device)
    if lse is not None:
        like(lse, (q.shape[0], q.shape[1], q.shape[3], q.shape[2]), sums(q.dtype), q.device)
    check_gradients(a, out)


def check_forward_op(a: dict, results) -> None:
    q = a["q"]
    like(results[0], q.shape, q.dtype, q.device)
    for statistic in results[1:]:
        like(statistic, (q.shape[0], q.shape[1], q.shape[3], q.shape[2]), sums(q.dtype), q.device)
    check_gradients(a, results[0])


def check_backward_op(a: dict, results) -> None:
    for name, grad in zip("qkv", results, strict=False):
        like(grad, a[name].shape, a[name].dtype, a[name].device)
    wanted = [bias for bias, needed in zip(a["biases"], a["bias_needs_grad"], strict=True) if needed]
    for bias, grad in zip(wanted, results[3], strict=True):
        like(grad, bias.shape, bias.dtype, bias.device)


def check_openfold(transposed: bool):
    def check(a: dict, out: Tensor) -> None:
        q, k, v = (a[name] for name in ("query", "key", "value"))
        rows = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        shape = (*rows[:-1], q.shape[-2], rows[-1], q.shape[-1])
        like(out.transpose(-2, -3) if transposed else out, shape, q.dtype, q.device)
        check_gradients(a, out)

    return check


def check_triangle(a: dict, results) -> None:
    q, bias = a["q"], a["bias"]
    shape = q.shape if q.dim() == 5 else (1, *q.shape)
    out, *aux = results if a["return_aux"] else (results,)
    like(out, shape, q.dtype, q.device)
    for statistic in aux:
        like(statistic, (*shape[:-1], 1), sums(q.dtype), q.device)
    assert not isinstance(bias, Tensor) or bias.dtype in FLOATS
    check_gradients(a, out)


# The functions.

OPTIONS = {"scale": SCALES, "fully_masked": FULLY_MASKED}


def attention_call(rng, s) -> Call:
    a = right_tensors(rng, s, "BNLHD") | {"scale": None, "fully_masked": rng.choice(("zero", "mean"))}
    a["return_lse"] = rng.random() < 0.5
    spoil(rng, a, s, OPTIONS | {"return_lse": (True, False)})
    return Call("evoformer_attention", evoformer_attention, a, check_attention, (RuntimeError, TypeError), is_right)


def forward_op_call(rng, s) -> Call:
    a = right_tensors(rng, s, "BNLHD") | {"scale": 0.25, "fully_masked": "zero"}
    spoil(rng, a, s, OPTIONS)
    op = torch.ops.longfold.evoformer_attention
    return Call("torch.ops.longfold.evoformer_attention", op, a, check_forward_op, (RuntimeError, TypeError), is_right)


def backward_op_call(rng, s) -> Call:
    a = right_tensors(rng, s, "BNLHD")
    a = {name: value.detach() if isinstance(value, Tensor) else value for name, value in a.items()}
    a["biases"] = [bias.detach() for bias in a["biases"]]
    q = a["q"]
    statistics = [s[letter] for letter in "BNHQ"]
    for name in ("grad_out", "out"):
        a[name] = tensor(rng, q.shape, q.dtype, q.device.type)
    for name in ("log_sum_exp", "lse_correction", "grad_log_sum_exp"):
        a[name] = tensor(rng, statistics, sums(q.dtype), q.device.type)
    if rng.random() < 0.5:
        a["grad_log_sum_exp"] = None
    a |= {"scale": None, "fully_masked": "mean", "bias_needs_grad": [rng.random() < 0.7 for _ in a["biases"]]}
    spoil(rng, a, s, OPTIONS)
    op = torch.ops.longfold.evoformer_attention_backward

    def right(arguments):
        return False if is_right(arguments) is False else None

    name = "torch.ops.longfold.evoformer_attention_backward"
    return Call(name, op, a, check_backward_op, (RuntimeError, TypeError), right)


def deepspeed_call(rng, s) -> Call:
    a = right_tensors(rng, s, "BNLHD")
    if rng.random() < 0.2 and a["biases"]:
        a["biases"][0] = None
    spoil(rng, a, s, {})
    a = {"QKV"["qkv".index(name)] if name in "qkv" else name: value for name, value in a.items()}

    def right(arguments):
        if not isinstance(arguments["biases"], (list, tuple)):
            return False
        present = [bias for bias in arguments["biases"] if bias is not None]
        q, k, v = (arguments[name] for name in "QKV")
        return False if is_right({"q": q, "k": k, "v": v, "biases": present}) is False else None

    def check(arguments, out):
        like(out, arguments["Q"].shape, arguments["Q"].dtype, arguments["Q"].device)
        check_gradients(arguments, out)

    errors = (RuntimeError, TypeError, ValueError)
    return Call("DS4Sci_EvoformerAttention", DS4Sci_EvoformerAttention, a, check, errors, right)


def openfold_call(rng, s) -> Call:
    a = right_tensors(rng, s, "BNHLD")
    if rng.random() < 0.4:  # other leading dimensions
        num = rng.choice((0, 1, 3))
        lead = [rng.choice((1, 2, 3)) for _ in range(num)]
        for name in "qkv":
            shape = [size if rng.random() < 0.8 else 1 for size in lead] + list(a[name].shape[2:])
            a[name] = tensor(rng, shape, a[name].dtype, a[name].device.type, a[name].requires_grad)
        biases = [general_bias(rng, s, a["q"]) for _ in range(2)]
        a["biases"] = [bias[..., :1, :1] for bias in biases if bias.dim() > 1]
    if rng.random() < 0.2:
        a["biases"].append(None)
    spoil(rng, a, s, {})
    full = rng.random() < 0.5
    names = {"q": "query", "k": "key", "v": "value"}
    shown = {names.get(name, name): value for name, value in a.items()}
    function = openfold.attention if full else openfold.evo_attention
    return Call(
        f"openfold.{function.__name__}",
        lambda query, key, value, biases: function(query, key, value, biases),
        shown,
        check_openfold(full),
        (RuntimeError, TypeError, ValueError),
        lambda arguments: None,
    )


def triangle_call(rng, s) -> Call:
    a = right_tensors(rng, s, "BNHLD")
    del a["biases"]
    q = a["q"]
    a["bias"] = tensor(rng, [s[x] if x in s else 1 for x in "B1HQK"], rng.choice(FLOATS), q.device.type)
    a |= {"mask": None, "scale": None, "return_aux": rng.random() < 0.3, "kv_lengths": None}
    if rng.random() < 0.5:
        a["mask"] = tensor(rng, [s[x] if x in s else 1 for x in "BN11K"], torch.bool, q.device.type)
    elif rng.random() < 0.5:
        a["kv_lengths"] = tensor(rng, [s[x] if x in s else 1 for x in "BN111"], torch.int64, q.device.type)
    if rng.random() < 0.2 and s["B"] == 1:
        a = {name: value[0] if isinstance(value, Tensor) else value for name, value in a.items()}
    spoil(rng, a, s, {"scale": SCALES, "return_aux": (True, False)})
    errors = (RuntimeError, TypeError, ValueError)
    function = cuequivariance.triangle_attention
    return Call("triangle_attention", function, a, check_triangle, errors, lambda arguments: None)


TARGETS = (attention_call, forward_op_call, backward_op_call, deepspeed_call, openfold_call, triangle_call)


def make_call(seed: int, index: int) -> Call:
    rng = random.Random(f"{seed}/{index}")
    torch.manual_seed(index)
    return rng.choice(TARGETS)(rng, sizes(rng))


def finding(call: Call) -> str | None:
    """What is wrong with how a call went."""
    right = call.is_right(call.arguments)
    try:
        results = call.function(**call.arguments)
        call.check(call.arguments, results)
    except AssertionError as error:
        return str(error) or "wrong results"
    except Exception as error:  # judged, not swallowed
        message, kind = str(error), type(error)
        if right:
            return f"refused, though right: {kind.__name__}: {message}"
        is_op = call.name.startswith("torch.ops.")
        if is_op and SCHEMA.match(message) and isinstance(error, (RuntimeError, ValueError, TypeError)):
            return None
        if kind not in call.errors or not message.startswith("[") or "\n" in message:
            return f"expected one line that starts with '[', got {kind.__module__}.{kind.__name__}: {message}"
        return None
    return "accepted, though wrong" if right is False else None


# A crash must not take the report with it: the cases run in a child, which notes the number of each before it starts.


def run_cases(seed: int, indices: range, note: int) -> int:
    torch.set_num_threads(1)
    for index in indices:
        os.pwrite(note, b"%020d" % index, 0)
        call = make_call(seed, index)
        problem = finding(call)
        if problem is not None:
            print(f"seed {seed}, case {index}: {call}\n{problem}")
            return FOUND
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, printed")
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--only", type=int, default=None, help="the number of one case")
    parser.add_argument("--worker", type=int, nargs=2, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    indices = range(options.cases) if options.only is None else range(options.only, options.only + 1)
    if options.worker is not None:
        return run_cases(seed, indices, options.worker[0])
    with tempfile.TemporaryFile() as note:
        command = [sys.executable, pathlib.Path(__file__), "--seed", str(seed), "--cases", str(options.cases)]
        command += [] if options.only is None else ["--only", str(options.only)]
        command += ["--worker", str(note.fileno()), "0"]
        code = subprocess.run(command, pass_fds=[note.fileno()]).returncode
        if code == 0:
            print(f"seed {seed}: {len(indices)} cases, nothing found")
        elif code != FOUND:
            index = int(note.read() or b"0")
            print(f"seed {seed}, case {index}: the process ended with {code} in {make_call(seed, index)}")
    return min(abs(code), 1)


if __name__ == "__main__":
    sys.exit(main())
