"""The DeepSpeed-compatible name, and install() with and without a DeepSpeed, each in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch
from attention import Case, eager_function, fp64, make_inputs

from longfold.deepspeed4science import DS4Sci_EvoformerAttention

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
CASE = Case("ds", b=2, n=6, lq=20, h=2, d=16)


def run_python(code: str, *paths: pathlib.Path) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*paths, PACKAGE]))}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("which", ["both", "mask", "pair", "none"])
@pytest.mark.usefixtures("device")
def test_biases_in_every_combination(which, dtype):
    x = make_inputs(CASE, dtype)
    used = {"both": ("mask", "pair"), "none": ()}.get(which, (which,))
    biases = {"both": [x["mask"], x["pair"]], "mask": [x["mask"]], "pair": [None, x["pair"]], "none": []}[which]
    before = list(biases)
    out = DS4Sci_EvoformerAttention(x["q"], x["k"], x["v"], biases)
    assert len(biases) == len(before) and all(a is b for a, b in zip(biases, before, strict=True))
    expected = eager_function(fp64({name: x[name] for name in ("q", "k", "v", *used)}))
    assert (out - expected).abs().max() < {torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float32: 1e-5}[dtype]
    assert out.dtype == dtype


@pytest.mark.usefixtures("device")
def test_gradients_reach_both_biases():
    x = {name: value.requires_grad_() for name, value in make_inputs(CASE, torch.float32).items()}
    DS4Sci_EvoformerAttention(x["q"], x["k"], x["v"], [x["mask"], x["pair"]]).square().sum().backward()
    assert all(value.grad.abs().max() > 1e-4 for value in x.values())


@pytest.mark.usefixtures("device")
def test_fully_masked_rows_give_the_mean_as_with_deepspeed():
    x = make_inputs(CASE, torch.float32)
    out = DS4Sci_EvoformerAttention(x["q"], x["k"], x["v"], [torch.full(CASE.shape("mask"), -1e9)])
    assert torch.allclose(out, x["v"].mean(2, keepdim=True).expand_as(out), atol=1e-6)


MESSAGES = {
    "three": ([None, None, None], "expected at most 2 biases, got 3"),
    "mask": (
        [torch.zeros(2, 1, 1, 1, 20)],
        "expected biases[0] (mask) of shape [2, 6, 1, 1, 20], got [2, 1, 1, 1, 20]",
    ),
    "pair": (
        [None, torch.zeros(2, 6, 2, 20, 20)],
        "expected biases[1] (pair bias) of shape [2, 1, 2, 20, 20], got [2, 6, 2, 20, 20]",
    ),
    # Q is [Batch, N_res = 6, N_seq = 20, Head, Dim]; DeepSpeed's tutorial says [Batch, N_seq, 1, 1, N_res].
    "msa_column": (
        [torch.zeros(2, 20, 1, 1, 6)],
        "expected biases[0] (mask) of shape [2, 6, 1, 1, 20], got [2, 20, 1, 1, 6]; for MSA column attention, "
        "Q [Batch, N_res, N_seq, Head, Dim], the mask is [Batch, N_res, 1, 1, N_seq]",
    ),
}


@pytest.mark.parametrize("biases, message", MESSAGES.values(), ids=MESSAGES.keys())
def test_messages(biases, message):
    x = make_inputs(CASE, torch.float32)
    with pytest.raises(ValueError) as error:
        DS4Sci_EvoformerAttention(x["q"], x["k"], x["v"], biases)
    assert str(error.value) == f"[DS4Sci_EvoformerAttention] {message}"


# What OpenFold does before and after it imports the name.
USE = """
import importlib.util
assert importlib.util.find_spec("deepspeed") is not None
assert importlib.util.find_spec("deepspeed.ops.deepspeed4science") is not None
import deepspeed
assert deepspeed.comm.comm.is_initialized() is False
from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention
assert DS4Sci_EvoformerAttention is longfold.deepspeed4science.DS4Sci_EvoformerAttention
"""
INSTALL = "import longfold.deepspeed4science; longfold.deepspeed4science.install()\n"

without_deepspeed = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import deepspeed"], capture_output=True).returncode == 0,
    reason="DeepSpeed is installed here",
)


@without_deepspeed
def test_install_without_deepspeed():
    code = "import importlib.util\nassert importlib.util.find_spec('deepspeed') is None\n" + INSTALL + INSTALL + USE
    missing = """
try:
    deepspeed.initialize
except AttributeError as error:
    print(error)
import sys
print(sum("_deepspeed_stand_in" in path for path in sys.path))
"""
    assert run_python(code + missing).splitlines() == [
        "longfold's stand-in for deepspeed has no 'initialize': install DeepSpeed for it",
        "1",
    ]


@without_deepspeed
def test_importing_longfold_alone_installs_nothing():
    run_python(
        "import longfold.deepspeed4science, importlib.util\nassert importlib.util.find_spec('deepspeed') is None"
    )


def fake_deepspeed(folder: pathlib.Path) -> None:
    for name, text in {
        "deepspeed/__init__.py": "from . import comm\ndef initialize(): return 'the real one'\n",
        "deepspeed/comm/__init__.py": "from . import comm\n",
        "deepspeed/comm/comm.py": "def is_initialized(): return False\n",
        "deepspeed/ops/__init__.py": "",
        "deepspeed/ops/deepspeed4science/__init__.py": "from .evoformer_attn import DS4Sci_EvoformerAttention\n",
        "deepspeed/ops/deepspeed4science/evoformer_attn.py": "def DS4Sci_EvoformerAttention(): raise SystemError\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("imported_before", [False, True])
def test_install_beside_a_real_deepspeed(tmp_path, imported_before):
    fake_deepspeed(tmp_path)
    code = ("import deepspeed.ops.deepspeed4science\n" if imported_before else "") + INSTALL + INSTALL + USE
    code += "print(deepspeed.initialize(), deepspeed.__file__)\nimport sys\n"
    code += "assert not any('_deepspeed_stand_in' in path for path in sys.path)\n"
    assert run_python(code, tmp_path).split() == ["the", "real", "one", str(tmp_path / "deepspeed/__init__.py")]


@without_deepspeed
def test_a_mere_folder_named_deepspeed_is_no_deepspeed(tmp_path):
    (tmp_path / "deepspeed").mkdir()
    run_python(INSTALL + USE, tmp_path)
