#!/usr/bin/env python3
"""Fails if a source file includes a folder that the table in CONTRIBUTING.md does not let it include."""

import pathlib
import re
import sys

# folder under longfold/ -> the longfold folders, and the outside libraries, that its files may include
ALLOWED = {
    "base": ({"base"}, {"nlohmann"}),
    "kernels": ({"kernels"}, {"cuda"}),
    "memory": ({"memory", "base"}, {"torch"}),
    "ops": ({"ops", "kernels", "base"}, {"torch"}),
    "model": ({"model", "ops", "kernels", "base"}, {"torch"}),
    "techniques": ({"techniques", "model", "memory", "kernels", "base"}, {"torch"}),
    "exchange": ({"exchange", "model", "base"}, {"torch", "nlohmann"}),
    "parallel": ({"parallel", "base"}, {"torch"}),
    "parallelize": ({"parallelize", "parallel", "techniques", "model", "memory", "base"}, {"torch"}),
    "data": ({"data", "base"}, {"torch", "nlohmann", "zlib"}),
    "train": (
        {"train", "data", "parallelize", "parallel", "techniques", "model", "memory", "kernels", "base"},
        {"torch", "toml++", "nlohmann", "zlib"},
    ),
    "cli": (
        {"cli", "train", "data", "parallel", "exchange", "techniques", "model", "ops", "memory", "kernels", "base"},
        {"torch", "CLI", "nlohmann"},
    ),
}
LIBRARIES = {
    "torch": re.compile(r"^(torch|ATen|c10)/"),
    "cuda": re.compile(r"^(cuda|cudnn)"),
    "nlohmann": re.compile(r"^nlohmann/"),
    "zlib": re.compile(r"^zlib\.h"),
    "toml++": re.compile(r"^toml\+\+/"),
    "CLI": re.compile(r"^CLI/"),
}
# Torch's CUDA headers ask for the toolkit's, which a build without CUDA lacks.
CUDA_OF_TORCH = re.compile(r"^(torch/csrc/cuda|ATen/cuda|c10/cuda)/")
MAY_USE_IT = "longfold/ops/cuda.cpp"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def problems(root: pathlib.Path) -> list[str]:
    found = []
    for path in sorted((root / "longfold").rglob("*")):
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"} or len(path.relative_to(root).parts) < 3:
            continue
        folder = path.relative_to(root).parts[1]
        if folder not in ALLOWED:
            found.append(f"{path.relative_to(root)}: folder '{folder}' is not in the table of tools/check_includes.py")
            continue
        folders, libraries = ALLOWED[folder]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            name = match.group(1)
            where = f"{path.relative_to(root)}:{number}"
            if name == "longfold/version.h":
                continue
            if name.startswith("longfold/") and name.split("/")[1] not in folders:
                found.append(f"{where}: '{folder}' may not include '{name}'")
            if CUDA_OF_TORCH.match(name) and path.relative_to(root).as_posix() != MAY_USE_IT:
                found.append(f"{where}: only {MAY_USE_IT} may include '{name}'")
            for library, pattern in LIBRARIES.items():
                if pattern.match(name) and library not in libraries:
                    found.append(f"{where}: '{folder}' may not include {library} ('{name}')")
    return found


if __name__ == "__main__":
    found = problems(pathlib.Path(__file__).resolve().parent.parent)
    print("\n".join(found) or "check_includes: every folder includes only the folders below it")
    sys.exit(1 if found else 0)
