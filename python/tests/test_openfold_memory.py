"""examples/openfold_memory.py: what it prints is exact, so that the claims can be held against it."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
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


def test_contract_and_bytes_of_one_shape_exactly():
    run_python(f"""{LOAD}
shape = example.Shape("one", 40, 128, 4, 16)
longfold, stock, difference = example.compare(shape, 24)
row, edges = 24 * 128 * 4 * 16 * 4, 128 * 128 * 4 * 4
parts = {{"inputs": 4 * row + edges + 24 * 128 * 4, "output": row, "gradients": 3 * row + edges}}
assert longfold.parts == stock.parts == parts, (longfold.parts, parts)
assert 0 < longfold.extra <= sum(example.contract(shape, 24).values())
assert 2.9 * shape.logits(24) < stock.extra < 3.6 * shape.logits(24), stock.extra / shape.logits(24)
assert difference < 1e-5
assert example.rows_that_fit(shape, 1 << 40) == 40
""")


def test_thirteen_times_less_at_the_extra_msa_shape():
    """The issue's claim: H 8, D 8, L 384, all counted. With more rows, the ratio only grows."""
    run_python(f"""{LOAD}
shape = example.SHAPES[-1]
assert (shape.length, shape.heads, shape.head_dim) == (384, 8, 8)
longfold, stock, _ = example.compare(shape, 256)
assert stock.total >= 13 * longfold.total, stock.total / longfold.total
assert longfold.extra <= sum(example.contract(shape, 256).values())
""")
