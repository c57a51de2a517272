#!/usr/bin/env python3
"""What the compiled kernels on tensor cores take, read from the library: registers, stack, shared memory, and how many
instructions of some kinds they have. kernel_resources.json holds what the kernels of CI's build took when it was made,
by one release of nvcc; test_kernel_resources.py compares. After a change that should move the numbers:

    make build PRESET=ci && python tests/cuda/kernel_resources.py --write
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = pathlib.Path(__file__).with_suffix(".json")
ARCHITECTURE = "sm_90a"
INSTANCES = ("bfloat16, 32", "bfloat16, 64")  # type and head dim, as the preset ci builds them
BIAS_FORMS = ("kNone", "k16", "k32")  # as in mma/params.h
BLOCKS = ("rows", "one row", "few queries")  # as in wgmma/tile_size.h; elsewhere a bool, whether of one row
MANGLED = re.compile(
    r"pass_kernelINS\w?_(?:\d+(wgmma))?\d+([A-Za-z]+?)INS\w?_\d+([a-z]+\d+)ELi(\d+)ELNS\w?_\d+BiasFormE(\d)E(?:(?:Lb|LNS\w?_\d+BlocksE)(\d)E)?"
)
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)([^;]*);")
# What may not grow; counts of other instructions may not change at all.
LIMITS = ("registers", "stack", "local_memory", "local_memory_in_loops", "bytes")


class Missing(Exception):
    """Why the kernels can't be looked at here."""


def build_folder() -> pathlib.Path:
    return pathlib.Path(os.environ.get("LONGFOLD_BUILD", ROOT / "build" / "release"))


def cuobjdump() -> str:
    """Of the CUDA toolkit, else the one that torch's triton brings."""
    found = shutil.which("cuobjdump", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"]))
    triton = importlib.util.find_spec("triton")
    if not found and triton and triton.submodule_search_locations:
        folder = pathlib.Path(triton.submodule_search_locations[0]) / "backends" / "nvidia" / "bin"
        found = shutil.which("cuobjdump", path=str(folder))
    if not found:
        raise Missing("no cuobjdump, neither on PATH nor in /usr/local/cuda/bin nor in a package triton")
    return found


def nvcc_release(build: pathlib.Path) -> str:
    """Of the nvcc that the build has found, as in 13.0."""
    for file in sorted(build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake")):
        if match := re.search(r'set\(CMAKE_CUDA_COMPILER_VERSION "(\d+\.\d+)', file.read_text()):
            return match[1]
    raise Missing(f"{build} was configured without nvcc")


def name_of(mangled: str) -> str | None:
    """As in Forward<bfloat16, 32, k16, rows> or wgmma::Forward<...>; None for what is no kernel on tensor cores."""
    match = MANGLED.search(mangled)
    if not match:
        return None
    folder, kernel, dtype, head_dim, form, blocks = match.groups()
    of = f", {BLOCKS[int(blocks)]}" if blocks else ""
    return f"{folder + '::' if folder else ''}{kernel}<{dtype}, {head_dim}, {BIAS_FORMS[int(form)]}{of}>"


def output_of(*command) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def resources(dump: str) -> dict[str, dict[str, int]]:
    """By mangled name, from `cuobjdump --dump-resource-usage`; other architectures are left out."""
    found, architecture = {}, ""
    for line, following in zip(dump.splitlines(), dump.splitlines()[1:], strict=False):
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        elif (match := re.match(r"\s*Function (\w+):", line)) and architecture == ARCHITECTURE:
            usage = dict(re.findall(r"(\w+):(\d+)", following))
            found[match[1]] = {"registers": int(usage["REG"]), "stack": int(usage["STACK"])}
    return found


def counts(instructions: list[tuple[int, str, str]]) -> dict[str, int]:
    """Of a kernel's instructions: address, name and operands of each."""
    loops = []
    for address, name, operands in instructions:
        target = re.search(r"0x([0-9a-f]+)\s*$", operands)
        if name.startswith("BRA") and target and int(target[1], 16) < address:
            loops.append((int(target[1], 16), address))
    # The innermost loop around each product; SASS has it as a branch backwards.
    products = [address for address, name, _ in instructions if name.startswith(("HMMA", "HGMMA"))]
    innermost = set()
    for product in products:
        around = [loop for loop in loops if loop[0] <= product <= loop[1]]
        if around:
            innermost.add(min(around, key=lambda loop: loop[1] - loop[0]))
    local = [address for address, name, _ in instructions if name.startswith(("LDL", "STL"))]
    return {
        "local_memory": len(local),
        "local_memory_in_loops": sum(any(a <= address <= b for a, b in innermost) for address in local),
        "products": len(products),
        "exponentials": sum(name == "MUFU.EX2" for _, name, _ in instructions),
        "global_loads": sum(name.split(".")[0] in ("LDG", "LDGSTS", "UTMALDG") for _, name, _ in instructions),
    }


def kernels_of(library: pathlib.Path) -> dict[str, dict[str, int]]:
    """By name, those of INSTANCES for ARCHITECTURE."""
    tool = cuobjdump()
    used = resources(output_of(tool, "--dump-resource-usage", library))
    if not used:
        raise Missing(f"{library} was not built for {ARCHITECTURE}")
    names = {mangled: name for mangled in used if (name := name_of(mangled)) and instance_of(name) in INSTANCES}
    code = output_of(tool, "--dump-sass", "--gpu-architecture", ARCHITECTURE, "--function", ",".join(names), library)
    found = {}
    for section in code.split("Function : ")[1:]:
        mangled = section.split(None, 1)[0]
        lines = [(int(address, 16), name, operands) for address, name, operands in INSTRUCTION.findall(section)]
        found[names[mangled]] = used[mangled] | counts(lines)
    if set(found) != set(names.values()):
        raise RuntimeError(f"{tool} printed the code of {len(found)} kernels of {len(names)}")
    return dict(sorted(found.items()))


def instance_of(name: str) -> str:
    """Type and head dim."""
    return ", ".join(name.split("<")[1].split(", ")[:2])


def shared_memory_of(program: pathlib.Path) -> dict[str, dict[str, int]]:
    """Of a block, the most of the kernels of a pass."""
    pairs = [line.rsplit(" ", 1) for line in output_of(program).splitlines()]
    if absent := set(INSTANCES) - {instance_of(name) for name, _ in pairs}:
        raise Missing(f"no kernels were built for {' and '.join(sorted(absent))}")
    return {name: {"bytes": int(num_bytes)} for name, num_bytes in sorted(pairs) if instance_of(name) in INSTANCES}


def read(build: pathlib.Path) -> dict:
    """The table of this build."""
    release = nvcc_release(build)
    library, program = build / "lib/ops/liblongfold_ops.so", build / "tests/cuda/shared_bytes"
    for path in (library, program):
        if not path.exists():
            raise Missing(f"{path} is missing: run `make build` where nvcc is, or set LONGFOLD_BUILD")
    shared_memory = shared_memory_of(program)
    return {
        "nvcc": release,
        "architecture": ARCHITECTURE,
        "kernels": kernels_of(library),
        "shared_memory": shared_memory,
    }


def differences(found: dict[str, dict[str, int]], table: dict[str, dict[str, int]]) -> list[str]:
    """One line for each number that is worse than the table's, or just other where there is no worse."""
    lines = [f"{name}: in the table, and not built" for name in table if name not in found]
    for name, numbers in found.items():
        if name not in table:
            lines.append(f"{name}: not in the table")
            continue
        for key, value in numbers.items():
            expected = table[name][key]
            if value > expected or (value < expected and key not in LIMITS):
                words = f"at most {expected}" if key in LIMITS else f"{expected}"
                lines.append(f"{name}: [{key}] expected {words}, got {value}")
    return lines


def text_of(table: dict) -> str:
    """JSON with a line for each kernel."""
    parts = []
    for key, value in table.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in value.items())
            parts.append(f"  {json.dumps(key)}: {{\n{rows}\n  }}")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Prints what the kernels of build/release take, as a table.")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name} instead")
    arguments = parser.parse_args()
    try:
        text = text_of(read(build_folder()))
    except (Missing, RuntimeError) as error:
        print(f"kernel_resources: {error}", file=sys.stderr)
        return 2
    if arguments.write:
        TABLE.write_text(text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
