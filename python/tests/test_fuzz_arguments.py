"""Random arguments find nothing; and the program that throws them would notice if there were something."""

import os
import pathlib
import subprocess
import sys

import fuzz_arguments
import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "python/tests/fuzz_arguments.py"


def test_random_arguments_find_nothing():
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    command = [sys.executable, PROGRAM, "--seed", "20", "--cases", "3000"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout == "seed 20: 3000 cases, nothing found\n"


def an_ok_call(fault):
    """A right call, of a function that then goes wrong in the way of `fault`."""
    q = torch.randn(1, 2, 3, 1, 4)
    right = fuzz_arguments.evoformer_attention
    return fuzz_arguments.Call(
        "call",
        lambda **arguments: fault(right(**arguments)),
        {"q": q, "k": q, "v": q, "biases": []},
        fuzz_arguments.check_attention,
        (RuntimeError,),
        fuzz_arguments.is_right,
    )


def raises(error):
    def fault(_):
        raise error

    return fault


FAULTS = {
    "shape": (lambda out: out[..., 1:], "of shape"),
    "dtype": (lambda out: out.double(), "float64"),
    "device": (lambda out: out.to("meta"), "meta"),
    "gradient": (lambda out: out.requires_grad_(), "wrong results"),
    "refusal": (raises(RuntimeError("[call] expected less, got more")), "refused, though right"),
    "refused_gradient": (raises(RuntimeError("[call] requires a gradient, which has none")), "refused, though right"),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found(fault, expected):
    assert fuzz_arguments.finding(an_ok_call(lambda out: out)) is None
    assert expected in fuzz_arguments.finding(an_ok_call(fault))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("expected less, got more"),
        RuntimeError("[call] expected less,\ngot more"),
        AttributeError("[call] expected less, got more"),
        KeyError("q"),
    ],
    ids=repr,
)
def test_a_wrong_error_is_found(error):
    call = an_ok_call(raises(error))
    call.arguments["q"] = None
    assert "expected one line" in fuzz_arguments.finding(call)


def test_what_is_accepted_wrongly_is_found():
    call = an_ok_call(lambda out: out)
    call.arguments["scale"] = float("inf")
    call.function = lambda **arguments: arguments["q"]
    assert fuzz_arguments.finding(call) == "accepted, though wrong"


def test_cases_repeat():
    assert str(fuzz_arguments.make_call(1, 2)) == str(fuzz_arguments.make_call(1, 2))
    assert len({str(fuzz_arguments.make_call(1, index)) for index in range(50)}) > 45


def test_a_crash_names_its_case(tmp_path):
    """The same program with a function that kills the process at case 7."""
    program = tmp_path / "fuzz.py"
    wanted = "call = make_call(seed, index)\n        problem"
    text = PROGRAM.read_text()
    assert wanted in text
    program.write_text(
        text.replace(wanted, "call = make_call(seed, index if index != 7 else os.abort())\n        problem")
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    command = [sys.executable, program, "--seed", "1", "--cases", "20"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout.startswith("seed 1, case 7: the process ended with -6 in "), result
