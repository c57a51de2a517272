"""Everything in README.md that can be typed is run: Python, C++ and shell blocks, as they stand."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def run(command: list[str], **kwargs) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **kwargs)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("number", range(2))
def test_python_snippet(number):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    output = run([sys.executable, "-c", blocks("python")[number]], env=environment)
    assert number == 1 or "torch.Size([1, 1, 8, 64, 64])" in output


def test_there_are_no_other_python_snippets():
    assert len(blocks("python")) == 2


def test_cpp_snippet(tmp_path):
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    (source,) = blocks("cpp")
    (tmp_path / "snippet.cpp").write_text(source)
    libraries = [BUILD / "lib" / "ops", *map(pathlib.Path, library_paths())]
    run(
        [compiler, "-std=c++20", "-O1", str(tmp_path / "snippet.cpp"), "-o", str(tmp_path / "snippet")]
        + [f"-I{folder}" for folder in [ROOT, BUILD / "generated", *include_paths()]]
        + [f"-L{folder}" for folder in libraries]
        + [f"-Wl,-rpath,{folder}" for folder in libraries]
        + ["-llongfold_ops", "-ltorch_cpu", "-lc10", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    )
    assert run([str(tmp_path / "snippet")]) == "262144 values\n"


@pytest.mark.parametrize("steps", [2, pytest.param(8, marks=pytest.mark.nightly)])
def test_shell_snippet(tmp_path, steps):
    """As it stands by night, else with fewer steps."""
    (script,) = blocks("sh")
    assert script.count("--train.steps 8") == 2
    if steps < 8:
        script = script.replace("--train.steps 8", f"--train.steps {steps} --optimizer.warmup_steps 1")
    for name in ("recipes", "build/release"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "data" / "phage-lambda.fa.gz", tmp_path / "genome.fa.gz")
    output = run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path)
    assert (tmp_path / f"build/runs/genome/step-{steps:08}/manifest.json").exists()
    assert (tmp_path / "build/runs/genome/report.html").exists() and "bits a base" in output
    assert "GGGCGGCGACCTCGCGGGTTTTCG" in output, "inspect decodes the first eight codons of phage lambda"


def test_commands_for_make_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^ +|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
