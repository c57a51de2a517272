"""The four uses of DeepSpeed's tutorial, and what programs ask the package deepspeed for, with and without it."""

import pathlib
import re

import pytest
import torch
from attention import Case, make_inputs, seeded
from test_deepspeed import INSTALL, fake_deepspeed, run_python, without_deepspeed

from longfold.deepspeed4science import DS4Sci_EvoformerAttention

BATCH, N_SEQ, N_RES, HEAD, DIM = 2, 3, 6, 2, 8


def formula(q, k, v, biases):
    """softmax(Q K^T / sqrt(Dim) + biases) V on [Batch, N, L, Head, Dim]."""
    logits = torch.einsum("bnihd,bnjhd->bnhij", q, k) / DIM**0.5
    for bias in biases:
        logits = logits + bias
    return torch.einsum("bnhij,bnjhd->bnihd", logits.softmax(-1), v)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed + sum(shape)), dtype=torch.float64)


def mask_of(*shape):
    """1 or 0 for each key, as DeepSpeed's own test has it, turned into a bias."""
    mask = torch.rand(shape, generator=seeded(4)) < 0.7
    mask[..., 0] = True
    return 1e9 * (mask.double() - 1)


def msa(name):
    return randn(BATCH, N_SEQ, N_RES, HEAD, DIM, seed=ord(name))


def edges(name):
    return randn(BATCH, N_RES, N_RES, HEAD, DIM, seed=ord(name))


def check(q, k, v, biases):
    """out and every gradient, in fp64."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v, *biases)]
    grad = randn(*q.shape, seed=9)
    results = []
    for function in (DS4Sci_EvoformerAttention, formula):
        out = function(*leaves[:3], leaves[3:])
        results.append([out, *torch.autograd.grad(out, leaves, grad)])
    for value, exact in zip(*results, strict=True):
        assert value.shape == exact.shape and exact.abs().max() > 0.01
        assert (value - exact).abs().max() < 1e-12 * exact.abs().max()


@pytest.mark.usefixtures("device")
def test_msa_row_attention():
    res_mask = mask_of(BATCH, N_SEQ, 1, 1, N_RES)
    pair_bias = randn(BATCH, 1, HEAD, N_RES, N_RES)
    check(msa("q"), msa("k"), msa("v"), [res_mask, pair_bias])


@pytest.mark.usefixtures("device")
def test_msa_column_attention():
    """Residues are rows and sequences are keys, so the mask of keys is [Batch, N_res, 1, 1, N_seq]."""
    q, k, v = (msa(name).transpose(1, 2) for name in "qkv")
    res_mask = mask_of(BATCH, N_SEQ, N_RES).transpose(1, 2)[:, :, None, None, :]
    assert res_mask.shape == (BATCH, N_RES, 1, 1, N_SEQ)
    check(q, k, v, [res_mask])


@pytest.mark.usefixtures("device")
def test_triangle_attention_around_the_starting_node():
    res_mask = mask_of(BATCH, N_RES, 1, 1, N_RES)
    right_edges = randn(BATCH, 1, HEAD, N_RES, N_RES)
    check(edges("q"), edges("k"), edges("v"), [res_mask, right_edges])


@pytest.mark.usefixtures("device")
def test_triangle_attention_around_the_ending_node():
    """The same with rows and columns of the pair representation exchanged, as views."""
    q, k, v = (edges(name).transpose(1, 2) for name in "qkv")
    res_mask = mask_of(BATCH, N_RES, N_RES).transpose(1, 2)[:, :, None, None, :]
    right_edges = randn(BATCH, N_RES, N_RES, HEAD).permute(0, 3, 2, 1)[:, None]
    check(q, k, v, [res_mask, right_edges])


def test_the_tutorials_column_mask_raises_and_names_the_right_shape():
    """Section 1.3.3 (b) as it stands: Q [Batch, N_res, N_seq, Head, Dim], res_mask [Batch, N_seq, 1, 1, N_res]."""
    q, k, v = (msa(name).transpose(1, 2) for name in "qkv")
    with pytest.raises(ValueError) as error:
        DS4Sci_EvoformerAttention(q, k, v, [mask_of(BATCH, N_SEQ, 1, 1, N_RES)])
    assert str(error.value) == (
        "[DS4Sci_EvoformerAttention] expected biases[0] (mask) of shape [2, 6, 1, 1, 3], got [2, 3, 1, 1, 6]; for MSA "
        "column attention, Q [Batch, N_res, N_seq, Head, Dim], the mask is [Batch, N_res, 1, 1, N_seq]"
    )


@pytest.mark.usefixtures("device")
def test_keys_of_another_length():
    q, k, v = randn(2, 3, 5, HEAD, DIM), randn(2, 3, 9, HEAD, DIM), randn(2, 3, 9, HEAD, DIM, seed=1)
    check(q, k, v, [mask_of(2, 3, 1, 1, 9), randn(2, 1, HEAD, 5, 9)])


@pytest.mark.parametrize("biases", [[], [None], [None, None]], ids=str)
def test_a_short_list_is_not_filled_up(biases):
    before = list(biases)
    q, k, v = msa("q"), msa("k"), msa("v")
    assert (DS4Sci_EvoformerAttention(q, k, v, biases) - formula(q, k, v, [])).abs().max() < 1e-12
    assert biases == before


@pytest.mark.usefixtures("device")
def test_gradients_of_biases_have_the_shape_and_dtype_of_the_bias():
    x = make_inputs(Case("ds", b=2, n=6, lq=20, h=2, d=16), torch.bfloat16, torch.float32)
    leaves = {name: value.requires_grad_() for name, value in x.items()}
    DS4Sci_EvoformerAttention(x["q"], x["k"], x["v"], [x["mask"], x["pair"]]).sum().backward()
    for leaf in leaves.values():
        assert leaf.grad.shape == leaf.shape and leaf.grad.dtype == leaf.dtype


# What OpenFold, OpenFold-3 and Protenix do with the package before they use the attention.
CALLERS = {
    "openfold": """
import importlib.util
deepspeed_is_installed = importlib.util.find_spec("deepspeed") is not None
ds4s_is_installed = deepspeed_is_installed and importlib.util.find_spec("deepspeed.ops.deepspeed4science") is not None
import deepspeed
from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention
assert deepspeed_is_installed and ds4s_is_installed
assert deepspeed.comm.comm.is_initialized() is False
assert deepspeed.checkpointing.is_configured() is False
""",
    "openfold_1_0": "import deepspeed\nassert deepspeed.utils.is_initialized() is False\n",
    "openfold_training": "from deepspeed.utils import zero_to_fp32\n",
    "openfold_3": """
import deepspeed
from deepspeed.runtime.activation_checkpointing.checkpointing import non_reentrant_checkpoint
from deepspeed.ops.adam import DeepSpeedCPUAdam
assert deepspeed.checkpointing.is_configured() is False
assert deepspeed.comm.comm.is_initialized() is False
""",
    "protenix": "from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention\n",
    "version_check": """
import deepspeed
from packaging.version import Version
assert Version(deepspeed.__version__) < Version("0.10.3")
""",
}
SPECS = """
import importlib.util
for name in ("deepspeed", "deepspeed.ops", "deepspeed.ops.deepspeed4science",
             "deepspeed.ops.deepspeed4science.evoformer_attn", "deepspeed.comm", "deepspeed.comm.comm"):
    assert importlib.util.find_spec(name) is not None, name
assert importlib.util.find_spec("deepspeed.no_such_module") is None
import deepspeed
assert deepspeed.__spec__ is not None and deepspeed.__spec__.name == "deepspeed"
assert importlib.util.find_spec("deepspeed") is deepspeed.__spec__
import deepspeed.ops.deepspeed4science, deepspeed.ops.deepspeed4science.evoformer_attn, longfold.deepspeed4science
for module in (deepspeed.ops.deepspeed4science, deepspeed.ops.deepspeed4science.evoformer_attn):
    assert module.DS4Sci_EvoformerAttention is longfold.deepspeed4science.DS4Sci_EvoformerAttention
"""


@without_deepspeed
@pytest.mark.parametrize("code", CALLERS.values(), ids=CALLERS.keys())
def test_callers_get_their_answers_from_the_stand_in(code):
    run_python(INSTALL + code)


@without_deepspeed
def test_specs_of_the_stand_in():
    run_python(INSTALL + SPECS)


def test_specs_beside_a_real_deepspeed(tmp_path):
    fake_deepspeed(tmp_path)
    run_python(INSTALL + SPECS, tmp_path)


@without_deepspeed
def test_metadata_says_that_no_deepspeed_is_installed():
    """Whoever asks for an installed distribution, rather than for a module, learns that there is none."""
    run_python(
        INSTALL
        + """
import importlib.metadata
try:
    importlib.metadata.version("deepspeed")
except importlib.metadata.PackageNotFoundError:
    pass
else:
    raise SystemExit("a distribution")
"""
    )


REFUSED = {
    "deepspeed.initialize": "initialize",
    "deepspeed.comm.all_reduce": "comm.all_reduce",
    "deepspeed.comm.comm.get_rank": "comm.comm.get_rank",
    "deepspeed.utils.safe_get_full_grad": "utils.safe_get_full_grad",
    "deepspeed.checkpointing.configure": "runtime.activation_checkpointing.checkpointing.configure",
    "deepspeed.ops.deepspeed4science.EvoformerFusedAttention": "ops.deepspeed4science.EvoformerFusedAttention",
    "deepspeed.runtime.engine": "runtime.engine",
}


@without_deepspeed
def test_what_the_stand_in_cannot_do_it_says():
    lines = run_python(
        INSTALL
        + f"""
import deepspeed
for expression in {list(REFUSED)}:
    try:
        eval(expression)
    except AttributeError as error:
        print(error)
assert not hasattr(deepspeed, "initialize") and not hasattr(deepspeed.ops.deepspeed4science, "other")
from deepspeed.ops.adam import DeepSpeedCPUAdam
try:
    DeepSpeedCPUAdam([])
except ImportError as error:
    print(error)
"""
    ).splitlines()
    expected = [
        f"longfold's stand-in for deepspeed has no '{name}': install DeepSpeed for it" for name in REFUSED.values()
    ]
    adam = "longfold's stand-in for deepspeed has no 'ops.adam.DeepSpeedCPUAdam': install DeepSpeed for it"
    assert lines == [*expected, f"{adam}, or use torch.optim.Adam"]


@without_deepspeed
@pytest.mark.parametrize("statement", ["from deepspeed import DeepSpeedEngine", "from deepspeed.utils import logger"])
def test_importing_what_is_absent_names_the_stand_in(statement):
    """Python words this ImportError, and gives the path of the module."""
    output = run_python(INSTALL + f"try:\n    {statement}\nexcept ImportError as error:\n    print(error)\n")
    assert re.match(r"cannot import name '\w+' from 'deepspeed.*longfold/_deepspeed_stand_in/deepspeed", output)


@without_deepspeed
def test_checkpointing_of_the_stand_in():
    run_python(
        INSTALL
        + """
import deepspeed, torch
calls = []
def function(x, y=None):
    calls.append(1)
    return x.sin() * (1 if y is None else y)
x, y = torch.randn(5, requires_grad=True), torch.randn(5)
for checkpoint, kwargs in ((deepspeed.checkpointing.checkpoint, {"y": y}),
                           (deepspeed.checkpointing.non_reentrant_checkpoint, {})):
    calls.clear()
    (grad,) = torch.autograd.grad(checkpoint(function, x, **kwargs).sum(), x)
    assert len(calls) == 2 and torch.equal(grad, x.cos() * kwargs.get("y", 1))
"""
    )


def test_an_old_deepspeed_is_named(tmp_path):
    for name in ("deepspeed/__init__.py", "deepspeed/ops/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    code = INSTALL.replace("\n", "").split(";")
    output = run_python(
        f"{code[0]}\ntry:\n    {code[1].strip()}\nexcept ImportError as error:\n    print(error)\n", tmp_path
    )
    assert output == (
        f"[install] expected DeepSpeed 0.10.3 or newer, got {tmp_path / 'deepspeed/__init__.py'} without "
        "deepspeed.ops.deepspeed4science\n"
    )


@without_deepspeed
def test_a_bare_module_of_that_name_is_named():
    output = run_python("""
import sys, types, longfold.deepspeed4science
sys.modules["deepspeed"] = types.ModuleType("deepspeed")
try:
    longfold.deepspeed4science.install()
except ImportError as error:
    print(error)
""")
    assert output == "[install] expected a package deepspeed or none, got a bare module: deepspeed.__spec__ is None\n"


def test_the_name_that_a_module_already_has_stays(tmp_path: pathlib.Path):
    """Why install() comes before the imports of the model."""
    fake_deepspeed(tmp_path)
    run_python(
        "from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention as early\n"
        + INSTALL
        + "from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention as late\n"
        + "assert late is longfold.deepspeed4science.DS4Sci_EvoformerAttention and early is not late\n",
        tmp_path,
    )
