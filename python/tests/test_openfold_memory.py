"""examples/openfold_memory.py: what it prints is exact, so that the claims can be held against it."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
import torch
from test_memory import run_python

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "openfold_memory.py"
LOAD = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("openfold_memory", {str(EXAMPLE)!r})
example = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = example
spec.loader.exec_module(example)
"""


def run_example(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables, each row by the names of its columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        head, _, *rows = [[cell.strip(" *") for cell in line.strip("| ").split("|")] for line in block.splitlines()]
        found.append([dict(zip(head, cells, strict=True)) for cells in rows])
    return found


def number(text: str) -> float:
    return float(text.replace(",", "").removesuffix("x"))


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    result = run_example("--small", "--write", folder)
    assert result.returncode == 0, result.stderr
    return result.stdout, folder


def test_prints_the_comparison(printed):
    comparison, breakdown = tables(printed[0])
    assert (
        [row["shape"] for row in comparison]
        == [row["shape"] for row in breakdown]
        == [
            "initial training, MSA",
            "initial training, extra MSA",
            "fine-tuning, MSA",
            "fine-tuning, extra MSA",
        ]
    )
    for row in comparison:
        assert re.fullmatch(r"\d+ of [\d,]+", row["N"]), "scaled, and says so"
        assert 0 < float(row["difference"]) < 1e-5, "both computed the same"
        assert 0 < number(row["longfold extra"]) <= number(row["contract"])
        ratio = number(row["stock total"]) / number(row["longfold total"])
        assert number(row["ratio"]) == pytest.approx(ratio, rel=0.03)
        assert ratio > (3 if row["D"] == "32" else 6)


def test_parts_add_up_to_the_totals(printed):
    for compared, row in zip(*tables(printed[0]), strict=True):
        parts = [number(row[name]) for name in ("inputs", "output", "gradients", "extra, measured")]
        assert sum(parts) == pytest.approx(number(compared["longfold total"]), abs=2.5)


def test_writes_the_page(printed):
    text, folder = printed
    (page,) = folder.iterdir()
    assert re.fullmatch(r"openfold-memory-\d{4}-\d\d-\d\d\.md", page.name)
    written = page.read_text()
    assert tables(written) == tables(text)
    assert re.search(r"- machine: .+, \d+ cores, \d+ GiB; \d+ threads\n- versions: torch \d", written)
    assert f"- command: `python examples/openfold_memory.py --small --write {folder}`" in written


PLACES = ["torch.device('cpu'), torch.float32", "torch.device('cuda'), torch.bfloat16"]


@pytest.fixture(params=PLACES, ids=["cpu", "cuda"])
def place(request, no_cuda):
    """Where and in what type: the arguments of the example's Place."""
    if "cuda" in request.param and no_cuda:
        pytest.skip(no_cuda)
    return request.param


def test_contract_and_bytes_of_one_shape_exactly(place):
    run_python(f"""{LOAD}
place = example.Place({place})
example.compare(example.Shape("warm-up", 2, 64, 8, 8), 2, place)
shape = example.Shape("one", 40, 128, 4, 16)
longfold, stock, difference = example.compare(shape, 24, place)
size = place.dtype.itemsize
row, edges = 24 * 128 * 4 * 16 * size, 128 * 128 * 4 * size
parts = {{"inputs": 4 * row + edges + 24 * 128 * size, "output": row, "gradients": 3 * row + edges}}
assert longfold.parts == stock.parts == parts, (longfold.parts, parts)
assert 0 < longfold.extra <= sum(example.contract(shape, 24, place).values())
logits = shape.logits(24, size)
assert 2.9 * logits < stock.extra < (4.1 if place.device.type == "cuda" else 3.6) * logits, stock.extra / logits
assert difference < (1e-5 if size == 4 else 3e-2)
assert example.rows_that_fit(shape, 1 << 40, place) == 40
""")


def test_thirteen_times_less_at_the_extra_msa_shape(place):
    """The issue's claim: H 8, D 8, L 384, all counted. With more rows, the ratio only grows."""
    run_python(f"""{LOAD}
place = example.Place({place})
example.compare(example.Shape("warm-up", 2, 64, 8, 8), 2, place)
shape = example.SHAPES[-1]
assert (shape.length, shape.heads, shape.head_dim) == (384, 8, 8)
num_rows = 256 if place.device.type == "cpu" else 1024
longfold, stock, _ = example.compare(shape, num_rows, place)
assert stock.total >= 13 * longfold.total, stock.total / longfold.total
assert longfold.extra <= sum(example.contract(shape, num_rows, place).values())
""")


def test_fewer_rows_where_memory_runs_out():
    """A device that holds 100 rows: 512, 448, ... are tried first, then numbers below 64."""
    output = run_python(f"""{LOAD}
tried = []
def compare(shape, num_rows, place):
    tried.append(num_rows)
    if num_rows > limit:
        raise torch.OutOfMemoryError
    return "both"
example.compare = compare
example.measure = None
shape = example.Shape("one", 512, 8, 1, 8)
limit = 100
assert list(example.compare_what_fits(shape, 512, example.Place())) == [64, *"both"], tried
assert tried == [512, 448, 384, 320, 256, 192, 128, 64], tried
limit, tried = 1, []
assert example.compare_what_fits(shape, 9, example.Place())[0] == 1
limit = 0
try:
    example.compare_what_fits(shape, 9, example.Place())
    raise AssertionError("one row did not fit")
except torch.OutOfMemoryError:
    pass
""")
    assert output == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu():
    result = run_example("--device", "cuda")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "openfold_memory: expected a GPU that torch can use for --device cuda, got none\n"


@pytest.mark.nightly  # two minutes
def test_bf16_halves_what_the_logits_take():
    fp32, bf16 = (run_example("--small", "--dtype", dtype) for dtype in ("fp32", "bf16"))
    for a, b in zip(tables(fp32.stdout)[0], tables(bf16.stdout)[0], strict=True):
        rows_a, rows_b = (int(row["N"].split()[0].replace(",", "")) for row in (a, b))
        per_row = number(a["stock extra"]) / rows_a / (number(b["stock extra"]) / rows_b)
        assert per_row == pytest.approx(2, rel=0.15), a["shape"]
    assert "Forward and backward in bf16" in bf16.stdout
