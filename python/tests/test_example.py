"""examples/evoformer_secy.py runs as a newcomer runs it, and reads Stockholm files as they come."""

import gzip
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "evoformer_secy.py"

spec = importlib.util.spec_from_file_location("evoformer_secy", EXAMPLE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


def run_example(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_prints_the_table():
    result = run_example("--rows", 3, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert "3 sequences x 614 columns" in result.stdout
    assert "seeded random projections of the one-hot encoding" in result.stdout
    for name in ("output", "gradient of q", "gradient of k", "gradient of v", "gradient of mask", "gradient of pair"):
        ours, eager = map(float, re.search(rf"error of {name} \*\* +(\S+) +(\S+)\n", result.stdout).groups())
        assert 0 < ours < 1e-5 and 0 < eager < 1e-5, name
    ours, eager = re.search(r"peak extra memory \* +(\S+) MiB +(\S+) MiB", result.stdout).groups()
    assert 0 < float(ours) < float(eager)
    assert "Try next:" in result.stdout


def test_says_where_it_ran_and_in_what():
    result = run_example("--rows", 2, "--device", "cpu", "--dtype", "bf16")
    assert result.returncode == 0, result.stderr
    assert re.search(r"^  on the CPU, \d+ threads, in bf16; ", result.stdout, flags=re.MULTILINE)
    for name in ("output", "gradient of q", "gradient of pair"):  # rounding of bf16, not of fp32, nor a wrong result
        ours = float(re.search(rf"error of {name} \*\* +(\S+) ", result.stdout)[1])
        assert 1e-4 < ours < 3e-2, name


def test_on_cuda(no_cuda):
    if no_cuda:
        pytest.skip(no_cuda)
    result = run_example("--rows", 3)
    assert result.returncode == 0, result.stderr
    assert f"on the GPU {torch.cuda.get_device_name()}, in bf16; " in result.stdout
    assert re.search(r"forward \+ backward +[\d.]+ m?s +[\d.]+ m?s\n", result.stdout)
    assert 1e-4 < float(re.search(r"error of gradient of pair \*\* +(\S+) ", result.stdout)[1]) < 3e-2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu_to_run_on():
    result = run_example("--device", "cuda")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "evoformer_secy: expected a GPU that torch can use for --device cuda, got none\n"


def test_a_build_without_cuda_is_named(monkeypatch, capsys):
    """A GPU that this build of longfold cannot use: the CPU, with the reason, unless the GPU was asked for."""

    def missing(*_, **__):
        raise RuntimeError("[evoformer_attention] the CUDA kernels of this build are missing: no nvcc")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(example, "evoformer_attention", missing)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    assert example.choose_device(None) == torch.device("cpu")
    assert "this runs on the CPU: [evoformer_attention] the CUDA kernels of this build" in capsys.readouterr().out
    with pytest.raises(example.BadInput, match="no nvcc"):
        example.choose_device("cuda")
    assert example.choose_device("cpu") == torch.device("cpu")


INTERLEAVED = """# STOCKHOLM 1.0
#=GF ID test
seq/1-5   AC.D

other     A--D
#=GR other SS  HHHH
//
"""


def test_reads_the_committed_alignment():
    sequences = example.read_stockholm(example.ALIGNMENT)
    assert len(sequences) == 158
    assert {len(text) for text in sequences.values()} == {614}
    assert set("".join(sequences.values())) <= set(example.RESIDUES + example.GAPS)


def test_joins_interleaved_blocks(tmp_path):
    path = tmp_path / "a.sto"
    path.write_text(INTERLEAVED.replace("//", "seq/1-5   eX\nother     .Z\n//"))
    sequences = example.read_stockholm(path)
    assert sequences == {"seq/1-5": "AC.DeX", "other": "A--D.Z"}
    one_hot, gaps = example.encode(sequences)
    assert gaps.tolist() == [[False, False, True, False, False, False], [False, True, True, False, True, False]]
    assert one_hot.sum(-1).eq(1).all() and one_hot.shape == (2, 6, 22)
    assert one_hot[0].argmax(-1).tolist() == [0, 1, 21, 2, 3, 20]
    assert one_hot[1, 5].argmax() == 20  # Z, glutamine or glutamate, is one of the unknown


BAD = {
    "not_stockholm": (b">fasta\nACGT\n", "expected '# STOCKHOLM' in the first line of"),
    "empty": (b"", "expected '# STOCKHOLM' in the first line of"),
    "cut_short": (INTERLEAVED.replace("//\n", "").encode(), "the file is cut short"),
    "no_sequences": (b"# STOCKHOLM 1.0\n//\n", "expected sequences in"),
    "ragged": (INTERLEAVED.replace("A--D", "A-").encode(), "expected 4 columns for other"),
    "three_words": (b"# STOCKHOLM 1.0\na b c\n//\n", "expected a name and a sequence in line 2"),
    "binary": (b"# STOCKHOLM 1.0\n\xff\xfe\x00\n//\n", "cannot read"),
    "truncated.gz": (gzip.compress(INTERLEAVED.encode())[:-20], "cannot read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name, tmp_path):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(example.BadInput, match=message):
        example.read_stockholm(path)


@pytest.mark.parametrize("arguments", [["--rows", 0], ["--rows", 159], ["/nowhere.sto"]])
def test_a_mistake_is_one_line(arguments):
    result = run_example(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert re.fullmatch(r"evoformer_secy: .+\n", result.stderr)
