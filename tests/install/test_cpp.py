"""The C++ package: installed from the release build, then used by examples/cpp from outside. Takes 20 s."""

import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil

import pytest
from outside import ROOT, attempt, documented, run

HEADERS = {
    "kernels/causal_attention.h",
    "kernels/dtype.h",
    "kernels/evoformer_attention.h",
    "kernels/isa.h",
    "kernels/tensor_view.h",
    "ops/causal_attention.h",
    "ops/evoformer_attention.h",
    "ops/export.h",
}
TORCH = importlib.metadata.version("torch").split("+")[0]


@pytest.fixture(scope="module")
def prefix(build, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("installed")
    run(["cmake", "--install", build, "--prefix", folder])
    return folder


def configure(source, folder, *options):
    return attempt(["cmake", "-S", source, "-B", folder, *options])


@pytest.fixture
def consumer(prefix, tmp_path):
    """consumer("COMPONENTS ops", "-D...") -> what configuring a project with that find_package printed as its error."""

    def find(components: str, *options: str, version: str = "") -> str:
        (tmp_path / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.31)\nproject(consumer LANGUAGES CXX)\n"
            f"find_package(longfold {version} REQUIRED {components})\n"
            "foreach(name kernels ops)\nif(TARGET longfold::${name})\n"
            'message(STATUS "found ${name}")\nendif()\nendforeach()\n'
        )
        done = configure(tmp_path, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}", *options)
        found = re.findall("found (kernels|ops)$", done.stdout, flags=re.MULTILINE)
        return " ".join(found) if done.returncode == 0 else " ".join(done.stderr.split())

    return find


def test_the_documented_commands(build, tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "release").symlink_to(build)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    output = run(documented("install"), cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert re.search(r"kernels, 3 threads: out\[0\] = -?\d\.\d{6}, largest error \S+ of \S+ allowed", output), output
    names = re.findall(r"^(\w+) +error \S+, of the plain formula in fp32 \S+$", output, flags=re.MULTILINE)
    assert names == ["out", "grad_q", "grad_k", "grad_v", "grad_mask", "grad_pair"]
    libraries = run(["ldd", tmp_path / "build/examples/evoformer_torch"])
    assert f"{tmp_path}/longfold/lib/liblongfold_ops.so" in libraries
    assert "not found" not in libraries
    openmp = [line for line in libraries.splitlines() if "gomp" in line or "libomp" in line or "iomp" in line]
    assert len(openmp) == 1, "two OpenMP runtimes would be two thread pools"


def test_kernels_need_no_torch(prefix, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(prefix, moved)
    for name in [*moved.glob("lib/*ops*"), *moved.glob("lib/cmake/longfold/*ops*")]:
        name.unlink()
    shutil.rmtree(moved / "include/longfold/ops")
    (moved / "lib/cmake/longfold/FindLibtorch.cmake").unlink()
    without = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("Libtorch", "Torch", "Python")]
    done = configure(
        ROOT / "examples/cpp", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={moved}", "-DWITH_TORCH=OFF", *without
    )
    assert done.returncode == 0, done.stderr
    run(["cmake", "--build", tmp_path / "build"])
    program = tmp_path / "build/evoformer_plain"
    assert "kernels, 3 threads: out[0] = " in run([program])
    assert "portable kernels" in run([program], env={"LONGFOLD_ISA": "portable"})
    libraries = run(["ldd", program])
    assert "libstdc++" in libraries and "torch" not in libraries and "c10" not in libraries
    assert not (tmp_path / "build/evoformer_torch").exists()


def test_the_library_finds_torch_by_itself(prefix):
    libraries = run(["ldd", prefix / "lib/liblongfold_ops.so"])
    assert "torch/lib/libtorch_cpu.so" in libraries and "not found" not in libraries


def test_what_is_installed(prefix):
    """The two libraries and what a user includes: no trainer, no inner headers."""
    installed = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    assert {name for name in installed if name.startswith("include/")} == {f"include/longfold/{h}" for h in HEADERS}
    assert {name for name in installed if re.fullmatch(r"lib/[^/]*", name)} == {
        "lib/liblongfold_kernels.a",
        "lib/liblongfold_ops.so",
    }
    assert {os.path.dirname(name) for name in installed if name.endswith(".cmake")} == {"lib/cmake/longfold"}
    assert not any(name.startswith("bin/") for name in installed)


def test_headers_include_only_headers_that_are_installed(prefix):
    for header in HEADERS:
        text = (prefix / "include/longfold" / header).read_text()
        for name in re.findall(r'#include "([^"]+)"', text):
            assert (prefix / "include" / name).exists(), f"{header} includes {name}"
        if header.startswith("kernels/"):
            assert not re.search(r"#include <(torch|ATen|c10)/", text)


def test_components(consumer):
    assert consumer("COMPONENTS kernels") == "kernels"
    assert consumer("COMPONENTS ops") == "ops"
    assert consumer("") == "kernels ops"
    (torch,) = importlib.util.find_spec("torch").submodule_search_locations
    assert consumer("COMPONENTS ops", f"-DLIBTORCH={torch}") == "ops"
    assert "[longfold] expected the components kernels and ops, got trainer" in consumer("COMPONENTS trainer")


def test_ops_without_torch_say_so(consumer):
    error = consumer("COMPONENTS ops", "-DCMAKE_DISABLE_FIND_PACKAGE_Libtorch=ON")
    assert f"[longfold] expected libtorch {TORCH}, which longfold::ops was built with, got none in" in error


def test_ops_refuse_another_torch(consumer, tmp_path):
    torch = tmp_path / "torch"
    for name in ("include/torch/library.h", "lib/libtorch.so", "lib/libtorch_cpu.so", "lib/libc10.so"):
        (torch / name).parent.mkdir(parents=True, exist_ok=True)
        (torch / name).touch()
    (torch / "version.py").write_text("__version__ = '2.99.0+cpu'\n")
    error = consumer("COMPONENTS kernels ops", f"-DLIBTORCH={torch}")
    assert f"was built with, got 2.99.0 in '{torch}'; set LIBTORCH to its folder, or build longfold" in error


def test_commands_in_the_readme_are_those_of_the_docs():
    """Those are run here and in test_pip.py."""
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"`((?:pip|cmake) [^`]+)`", readme)
    assert commands == [documented("pip").strip(), documented("install").splitlines()[0]]
    for line in re.findall(r"`(find_package[^`]+)`", readme):
        assert line in (ROOT / "examples/cpp/CMakeLists.txt").read_text()


def test_versions(consumer):
    (version,) = re.findall(r"project\(longfold VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())
    assert consumer("COMPONENTS kernels", version=f"{version} EXACT") == "kernels"
    assert "not find a configuration file for package" in consumer("COMPONENTS kernels", version="99")
