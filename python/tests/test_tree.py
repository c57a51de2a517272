"""Promises about the source tree and the built objects."""

import importlib.util
import pathlib
import platform
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBJECTS = ROOT / "build/release/lib/kernels/CMakeFiles/longfold_kernels.dir/cpu"


def check_includes():
    spec = importlib.util.spec_from_file_location("check_includes", ROOT / "tools/check_includes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_folder_includes_only_what_it_may():
    assert check_includes().problems(ROOT) == []


@pytest.mark.parametrize(
    ("folder", "include"),
    [
        ("base", "longfold/kernels/isa.h"),
        ("kernels", "torch/library.h"),
        ("model", "longfold/parallel/engine.h"),
        ("ops", "c10/cuda/CUDAStream.h"),
        ("ops", "cuda_runtime.h"),
    ],
)
def test_a_wrong_include_is_found(tmp_path, folder, include):
    (tmp_path / "longfold" / folder).mkdir(parents=True)
    (tmp_path / "longfold" / folder / "wrong.cpp").write_text(f'#include "{include}"\n')
    (problem,) = check_includes().problems(tmp_path)
    assert problem.startswith(f"longfold/{folder}/wrong.cpp:1: ") and include in problem


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has AVX-512 kernels")
@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512_bf16"])
@pytest.mark.parametrize("attention", ["causal", "evoformer"])
def test_no_vector_function_can_replace_a_portable_one(attention, isa):
    """The linker keeps one of several weak definitions: one compiled for newer CPUs would crash older ones."""
    object_file = OBJECTS / attention / f"{isa}.cpp.o"
    symbols = subprocess.run(["nm", "--defined-only", object_file], capture_output=True, text=True)
    assert symbols.returncode == 0, symbols.stderr
    weak = [line for line in symbols.stdout.splitlines() if line.split()[1] in {"W", "V", "u"}]
    assert weak == []
