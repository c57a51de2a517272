"""cmake/FindLibtorch.cmake, on folders that look like torch."""

import pytest
from outside import ROOT, attempt, run


@pytest.fixture
def torch(tmp_path):
    """torch("name", "2.11.0+cpu") -> a folder with that version, laid out as the wheel, with CUDA or not."""

    def make(name: str, version: str, cuda: str = ""):
        folder = tmp_path / name
        libraries = ["torch", "torch_cpu", "c10"] + (["torch_cuda", "c10_cuda"] if cuda else [])
        for file in ["include/torch/library.h"] + [f"lib/lib{library}.so" for library in libraries]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        (folder / "version.py").write_text(
            f"from typing import Optional\n__version__ = '{version}'\ndebug = False\n"
            f"cuda: Optional[str] = {cuda or None!r}\nhip: Optional[str] = None\n"
        )
        return folder

    return make


@pytest.fixture
def found(tmp_path):
    """found(folder) -> version, full version, include folder and CUDA version, from one build folder that is used
    again."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.31)\nproject(consumer LANGUAGES CXX)\n"
        f'list(APPEND CMAKE_MODULE_PATH "{ROOT}/cmake")\nfind_package(Libtorch REQUIRED)\n'
        'message(STATUS "found|${Libtorch_VERSION}|${Libtorch_FULL_VERSION}|${Libtorch_INCLUDE_DIR}'
        '|${Libtorch_CUDA_VERSION}")\n'
    )

    def find(folder):
        output = run(["cmake", "-S", source, "-B", tmp_path / "build", f"-DLIBTORCH={folder}"])
        (line,) = [line for line in output.splitlines() if line.startswith("-- found|")]
        version, full, include, cuda = line.split("|")[1:]
        return [version, full, include.rstrip("/"), cuda]

    return find


@pytest.mark.parametrize("version", ["2.11.0", "2.11.0+cpu", "2.11.0a0+git1a2b3c", "2.11.0.dev20260101+cu130"])
def test_versions(torch, found, version):
    folder = torch("torch", version)
    assert found(folder) == ["2.11.0", version.split("+")[0], f"{folder}/include", ""]


def test_a_build_folder_does_not_keep_the_headers_of_another_torch(torch, found):
    first, second = torch("first", "2.11.0"), torch("second", "2.12.0")
    assert found(first)[2] == f"{first}/include"
    assert found(second) == ["2.12.0", "2.12.0", f"{second}/include", ""]


def test_the_cuda_of_torch(torch, found):
    assert found(torch("with", "2.11.0+cu130", cuda="13.0"))[3] == "13.0"
    assert found(torch("without", "2.11.0+cpu"))[3] == ""


@pytest.fixture
def nvcc(tmp_path):
    """Something that says it is nvcc 12.4."""
    program = tmp_path / "nvcc"
    program.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
    program.chmod(0o755)
    return program


WHY_NOT = {
    "another_major_version": ("2.11.0+cu130", "13.0", "nvcc is of CUDA 12.4 and torch of CUDA 13.0"),
    "torch_without_cuda": ("2.11.0+cpu", "", "torch 2.11.0 was installed without CUDA"),
}


@pytest.mark.parametrize("version, cuda, why", WHY_NOT.values(), ids=WHY_NOT.keys())
def test_cuda_that_cannot_be_built_is_an_error_if_asked_for(torch, nvcc, tmp_path, version, cuda, why):
    settings = [f"-DLIBTORCH={torch('torch', version, cuda)}", f"-DLONGFOLD_NVCC={nvcc}", "-DLONGFOLD_TRAINER=OFF"]
    done = attempt(["cmake", "-S", ROOT, "-B", tmp_path / "on", "-DLONGFOLD_CUDA=ON", *settings])
    assert done.returncode != 0 and "[LONGFOLD_CUDA] expected nvcc and a torch" in done.stderr
    assert why in " ".join(done.stderr.split())
    done = attempt(["cmake", "-S", ROOT, "-B", tmp_path / "auto", "-DLONGFOLD_TESTS=OFF", *settings])
    assert f"-- CUDA kernels: not built, {why}" in done.stdout


def test_cuda_is_auto_on_or_off(torch, tmp_path):
    done = attempt(
        ["cmake", "-S", ROOT, "-B", tmp_path / "build", f"-DLIBTORCH={torch('torch', '2.11.0')}", "-DLONGFOLD_CUDA=yes"]
    )
    assert done.returncode != 0 and "[LONGFOLD_CUDA] expected AUTO, ON or OFF, got 'yes'" in done.stderr


@pytest.mark.parametrize("version", ["2.10.9", "2.13.0"])
def test_sources_refuse_a_torch_that_was_not_tried(torch, tmp_path, version):
    done = attempt(["cmake", "-S", ROOT, "-B", tmp_path / "build", f"-DLIBTORCH={torch('torch', version)}"])
    assert done.returncode != 0
    error = " ".join(done.stderr.split())
    assert f'Could NOT find Libtorch: Found unsuitable version "{version}", required range is "2.11...<2.13"' in error
