"""pip install in a fresh environment. The build takes 1 minute on 2 cores; all takes 15 s where ccache knows it."""

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from outside import ROOT, attempt, documented, run

CHECK = """
import json, pathlib, sys
import torch
import longfold
from longfold import evoformer_attention
from longfold.memory import MemoryMeter

def formula(q, k, v, mask, pair):
    logits = torch.einsum("bnihd,bnjhd->bnhij", q, k) * q.shape[-1] ** -0.5 + mask + pair
    return torch.einsum("bnhij,bnjhd->bnihd", logits.softmax(-1), v)

def results(function, inputs, cotangent, dtype):
    leaves = [x.to(dtype).detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent.to(dtype))]

torch.manual_seed(1)
B, N, L, H, D = 1, 5, 70, 4, 32
inputs = [torch.randn(B, N, L, H, D) for _ in range(3)] + [torch.randn(B, N, 1, 1, L), torch.randn(B, 1, H, L, L)]
cotangent = torch.randn(B, N, L, H, D)
exact = results(formula, inputs, cotangent, torch.float64)
eager = results(formula, inputs, cotangent, torch.float32)
with MemoryMeter() as meter:
    ours = results(lambda q, k, v, *b: evoformer_attention(q, k, v, b), inputs, cotangent, torch.float32)
eps = torch.finfo(torch.float32).eps
print(json.dumps({
    "file": longfold.__file__,
    "version": longfold.__version__,
    "within": [
        ((o - x).abs().max() <= 2 * (e - x).abs().max() + eps * x.abs().max()).item()
        for o, e, x in zip(ours, eager, exact, strict=True)
    ],
    "extra_peak": meter.extra_peak,
    "libraries": [line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line or "liblongfold" in line],
}))
"""

VERSION = re.search(r"project\(longfold VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
TORCH = importlib.metadata.version("torch").split("+")[0]
(NEEDED,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> pathlib.Path:
    """What git would hand to somebody else, and a stale library, as a checkout that was built before may have."""
    folder = tmp_path_factory.mktemp("pip") / "tree"
    names = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT).split("\0")
    for name in filter(lambda name: (ROOT / name).is_file(), names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "python/longfold/lib").mkdir()
    (folder / "python/longfold/lib/liblongfold_stale.so").write_text("of an earlier build")
    return folder


@pytest.fixture(scope="module")
def install(tree, build):
    """install("pip install ...") runs that in the sources, for a fresh environment. It sees torch and the build tools
    of the one that runs the tests by path alone: .pth files over there, such as that of the checkout, are not read."""
    folder = tree.parent / "environment"
    run([sys.executable, "-m", "venv", folder])
    # Torch's path as seen from the sources, compiler and flags are those of the build: ccache then knows the objects.
    venv = (ROOT / ".venv").resolve()
    (tree / ".venv").symlink_to(venv)
    seen = [pathlib.Path(path).resolve() for path in sys.path if path.endswith("site-packages")]
    seen = [tree / ".venv" / path.relative_to(venv) if path.is_relative_to(venv) else path for path in seen]
    (pth,) = [path / "torch_of_the_tests.pth" for path in folder.glob("lib/python*/site-packages")]
    pth.write_text("".join(f"{path}\n" for path in seen))
    path = f"{folder / 'bin'}:{pathlib.Path(sys.executable).parent}:/usr/bin:/bin"
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), flags=re.MULTILINE))
    same = [
        "CMAKE_COMPILE_WARNING_AS_ERROR",
        "CMAKE_CUDA_ARCHITECTURES",
        "LONGFOLD_CUDA_HEAD_DIMS",
        "LONGFOLD_CUDA_TYPES",
    ]
    flags = " ".join(f"'-D{name}={cache[name]}'" for name in same if name in cache)
    settings = {"PATH": path, "CXX": cache["CMAKE_CXX_COMPILER"], "CMAKE_ARGS": flags, "PIP_NO_INDEX": "1"}
    return lambda command: run(command, cwd=tree, env=settings)


@pytest.fixture(scope="module")
def environment(tree, install) -> pathlib.Path:
    install(documented("pip"))
    return tree.parent / "environment"


@pytest.fixture(scope="module")
def package(environment) -> pathlib.Path:
    (folder,) = environment.glob("lib/python*/site-packages/longfold")
    return folder


@pytest.fixture
def python(environment, tmp_path):
    """python("code") -> the finished process, run by the fresh environment in another folder."""

    def start(code: str, **options) -> subprocess.CompletedProcess:
        return attempt([environment / "bin/python", "-c", code], cwd=tmp_path, **options)

    return start


def test_attention_works_in_a_fresh_environment(python, package):
    done = python(CHECK)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert pathlib.Path(result["file"]) == package / "__init__.py"
    assert result["version"] == VERSION
    assert result["within"] == [True] * 6, "output and five gradients, against the formula in fp64"
    assert result["extra_peak"] > 0
    libraries = {pathlib.Path(path) for path in result["libraries"]}
    ours = {path for path in libraries if path.name.startswith("liblongfold")}
    assert ours == {package / "lib/liblongfold_ops.so", package / "lib/liblongfold_memory.so"}
    assert len(libraries - ours) == 1, f"two OpenMP runtimes would be two thread pools: {libraries - ours}"


def test_version_is_that_of_cmake(python):
    done = python("import importlib.metadata as m; print(m.version('longfold'), m.requires('longfold'))")
    assert done.stdout.split(maxsplit=1)[0] == VERSION, done.stderr
    low, high = re.fullmatch("torch(>=.+),(<.+)", NEEDED).groups()
    assert f"torch{high},{low}" in done.stdout


def test_deepspeeds_name_works(python):
    done = python(
        "from longfold.deepspeed4science import install; install()\n"
        "from deepspeed.ops.deepspeed4science import DS4Sci_EvoformerAttention as f; print(f.__module__)"
    )
    assert done.stdout == "longfold.deepspeed4science\n", done.stderr


def test_what_the_wheel_holds(package, tree):
    installed = {str(path.relative_to(package)) for path in package.rglob("*") if path.suffix != ".pyc"}
    sources = {path.relative_to(tree / "python/longfold") for path in (tree / "python/longfold").rglob("*.py")}
    built = {"liblongfold_memory.so", "liblongfold_ops.so", "built_for_torch.txt", "version.txt"}
    files = {str(name) for name in sources} | {"py.typed"} | {f"lib/{name}" for name in built}
    assert {name for name in installed if (package / name).is_file()} == files
    assert "_deepspeed_stand_in/deepspeed/ops/deepspeed4science/__init__.py" in installed
    assert (package / "lib/built_for_torch.txt").read_text() == f"{TORCH}\n"


@pytest.mark.parametrize("name", ["liblongfold_ops.so", "liblongfold_memory.so"])
def test_libraries_find_torch_beside_them(package, name):
    dynamic = run(["readelf", "-d", package / "lib" / name])
    assert "Library runpath: [$ORIGIN/../../torch/lib:$ORIGIN/../../torch.libs]" in dynamic


def test_configuring_looks_for_nothing_but_torch(environment, tree):
    looked_for = set(re.findall(r"^(\w+)_DIR:", (tree / "build/wheel/CMakeCache.txt").read_text(), flags=re.MULTILINE))
    named = looked_for & {"nlohmann_json", "CLI11", "tomlplusplus", "GTest", "benchmark", "ZLIB"}
    assert named == set()
    compiled = {path.parent.name for path in (tree / "build/wheel/lib").rglob("*.dir")}
    assert compiled == {"CMakeFiles"}
    targets = {path.stem for path in (tree / "build/wheel/lib").rglob("*.dir")}
    assert targets == {
        "longfold_base",
        "longfold_kernels",
        "longfold_kernels_cuda",
        "longfold_memory",
        "longfold_ops",
    }


def test_another_torch_is_refused(python, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text('__version__ = "2.99.0+cpu"\n')
    done = python("import longfold", env={"PYTHONPATH": str(tmp_path)})
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"ImportError: longfold was built for torch {TORCH}, but this is torch 2.99.0+cpu: ")
    text = " ".join((ROOT / "docs/install.md").read_text().split())
    assert message.replace(TORCH, "2.11.0").replace("2.99.0+cpu", "2.12.0") in text


def test_the_advice_after_torch_was_replaced_works(python, package, install):
    (package / "lib/built_for_torch.txt").write_text("2.10.0\n")
    message = python("import longfold").stderr.splitlines()[-1]
    assert message.startswith(f"ImportError: longfold was built for torch 2.10.0, but this is torch {TORCH}")
    install(re.search(r"`(pip install [^`]+)`", message)[1])
    assert python("import longfold; print(longfold.__version__)").stdout == f"{VERSION}\n"


def test_the_range_of_torch_is_said_once_in_each_language():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert NEEDED in project["build-system"]["requires"]
    low, high = re.fullmatch(r"torch>=([\d.]+),<([\d.]+)", NEEDED).groups()
    assert f"find_package(Libtorch {low}...<{high} REQUIRED)" in (ROOT / "CMakeLists.txt").read_text()
    assert f"torch >= {low}, < {high}" in (ROOT / "docs/install.md").read_text()
    pinned = re.search(r"^torch==([\d.]+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)[1]
    parts = [tuple(map(int, text.split("."))) for text in (low, pinned, high)]
    assert parts[0] <= parts[1] < parts[2]
