"""cmake/FindLibtorch.cmake, on folders that look like torch."""

import pytest
from outside import ROOT, attempt, run


@pytest.fixture
def torch(tmp_path):
    """torch("name", "2.11.0+cpu") -> a folder with that version, laid out as the wheel."""

    def make(name: str, version: str):
        folder = tmp_path / name
        for file in ("include/torch/library.h", "lib/libtorch.so", "lib/libtorch_cpu.so", "lib/libc10.so"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        (folder / "version.py").write_text(f"from typing import Optional\n__version__ = '{version}'\ndebug = False\n")
        return folder

    return make


@pytest.fixture
def found(tmp_path):
    """found(folder) -> version, full version and include folder, from one build folder that is used again."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.31)\nproject(consumer LANGUAGES CXX)\n"
        f'list(APPEND CMAKE_MODULE_PATH "{ROOT}/cmake")\nfind_package(Libtorch REQUIRED)\n'
        'message(STATUS "found|${Libtorch_VERSION}|${Libtorch_FULL_VERSION}|${Libtorch_INCLUDE_DIR}")\n'
    )

    def find(folder):
        output = run(["cmake", "-S", source, "-B", tmp_path / "build", f"-DLIBTORCH={folder}"])
        (line,) = [line for line in output.splitlines() if line.startswith("-- found|")]
        return line.rstrip("/").split("|")[1:]

    return find


@pytest.mark.parametrize("version", ["2.11.0", "2.11.0+cpu", "2.11.0a0+git1a2b3c", "2.11.0.dev20260101+cu130"])
def test_versions(torch, found, version):
    folder = torch("torch", version)
    assert found(folder) == ["2.11.0", version.split("+")[0], f"{folder}/include"]


def test_a_build_folder_does_not_keep_the_headers_of_another_torch(torch, found):
    first, second = torch("first", "2.11.0"), torch("second", "2.12.0")
    assert found(first)[2] == f"{first}/include"
    assert found(second) == ["2.12.0", "2.12.0", f"{second}/include"]


@pytest.mark.parametrize("version", ["2.10.9", "2.13.0"])
def test_sources_refuse_a_torch_that_was_not_tried(torch, tmp_path, version):
    done = attempt(["cmake", "-S", ROOT, "-B", tmp_path / "build", f"-DLIBTORCH={torch('torch', version)}"])
    assert done.returncode != 0
    error = " ".join(done.stderr.split())
    assert f'Could NOT find Libtorch: Found unsuitable version "{version}", required range is "2.11...<2.13"' in error
