"""bench/evoformer_cuda.py on the CPU, as a user runs it: rows, verdicts, page, plot, mistakes."""

import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"

# Contenders that a run must survive, and tell apart.
BAD = """
import itertools, os, signal, time
import torch
from longfold import evoformer_attention

def right(q, k, v, mask, pair):
    return evoformer_attention(q, k, v, [mask, pair])

def without_pair(q, k, v, mask, pair):
    return evoformer_attention(q, k, v, [mask, 0 * pair])

def nan(q, k, v, mask, pair):
    return right(q, k, v, mask, pair) * float("nan")

def raises(q, k, v, mask, pair):
    raise ValueError("no head dim\\nbelow 64 | or so")

def forward_only(q, k, v, mask, pair):
    if torch.is_grad_enabled():
        raise NotImplementedError("no gradients")
    return right(q, k, v, mask, pair)

calls = itertools.count()
def never_the_same(q, k, v, mask, pair):
    out = right(q, k, v, mask, pair)
    return out + out * 2**-6 * next(calls)

def ends_the_process(q, k, v, mask, pair):
    os.kill(os.getpid(), signal.SIGKILL)

def hangs(q, k, v, mask, pair):
    time.sleep(1000)
"""


def run_bench(*arguments, folder=None):
    paths = [str(ROOT / "python"), *([str(folder)] if folder else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(BENCH / "evoformer_cuda.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables, each row by the names of its columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        found.append([dict(zip(head, cells, strict=True)) for cells in rows])
    return found


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    (folder / "bad.py").write_text(BAD)
    names = re.findall(r"^def (\w+)", BAD, flags=re.MULTILINE)
    bad = ",".join(f"{name}=bad:{name}" for name in names)
    result = run_bench(
        *("--device", "cpu", "--dtype", "fp32", "--seconds", 0.05, "--patience", 10),
        *("--shapes", "triangle_512,triangle_1024", "--contenders", f"longfold,eager,sdpa,{bad}"),
        *("--json", folder / "run.json", "--write", folder / "results"),
        folder=folder,
    )
    assert result.returncode == 0, result.stderr
    return folder, result


def test_each_contender_has_its_row(dry_run):
    _, times, errors = tables(dry_run[1].stdout)
    for shape in ("triangle_512", "triangle_1024"):
        begin = next(i for i, row in enumerate(times) if row["shape"] == f"{shape} float32")
        rows = {row["by"]: row for row in times[begin : begin + 11]}
        for name in ("longfold", "eager", "SDPA", "right", "without_pair", "nan", "never_the_same"):
            for column in ("forward", "forward + backward"):
                assert re.fullmatch(r"[\d.]+ \([\d.]+-[\d.]+\)", rows[name][column]), (name, column)
        for name in ("longfold", "eager", "SDPA", "right"):
            assert rows[name]["note"] == ""
        assert rows["raises"]["note"] == "ValueError: no head dim"
        assert rows["forward_only"]["note"] == "forward + backward: NotImplementedError: no gradients"
        assert rows["forward_only"]["forward"] != "-" == rows["forward_only"]["forward + backward"]
        assert rows["ends_the_process"]["note"] == "ended its process with signal 9 (forward)"
        silent = {"triangle_512": "said nothing for 10 s (forward)"}
        assert rows["hangs"]["note"] == silent.get(shape, "left out: said nothing for 10 s (at triangle_512)")
        assert rows["without_pair"]["note"] == "wrong: out, q, k, v, pair"
        assert rows["nan"]["note"].startswith("wrong: out, q")
    bits = {row["by"]: row["bits"] for row in errors}
    assert bits["longfold"] == bits["right"] == bits["eager"] == "the same"
    assert bits["never_the_same"] == "differ: out, q, k, v, pair"
    for row in errors:
        if row["by"] in ("longfold", "eager", "SDPA", "right"):
            assert all(0 < float(row[name]) < 2e-6 for name in ("out", *(n for n in row if n.startswith("grad of"))))


def test_verdicts_leave_out_wrong_contenders(dry_run):
    verdicts, *_ = tables(dry_run[1].stdout)
    assert [row["shape"] for row in verdicts] == ["triangle_512", "triangle_1024"]
    for row in verdicts:
        assert not re.search("without_pair|nan", row["forward"]) and re.fullmatch(r"[\d.]+x \(\w+\)", row["forward"])
    last = dry_run[1].stderr.splitlines()[-1]
    assert re.match(r"float32: longfold is ahead of every peer at \d of 2 shapes", last)


def test_the_page_and_its_plot_are_written(dry_run):
    folder, result = dry_run
    (written,) = (folder / "results").glob("evoformer-dry-run-*.md")
    picture = written.with_suffix(".svg")
    assert f"![milliseconds over L]({picture.name})" in written.read_text()
    assert tables(written.read_text()) == tables(result.stdout)
    assert "Dry run on the CPU" in result.stdout and "- machine: CPU" in result.stdout
    assert "`python bench/evoformer_cuda.py --device cpu --dtype fp32" in result.stdout
    assert re.search(r"longfold \d\S*, torch \d", result.stdout)
    xml.etree.ElementTree.parse(picture)
    for name in ("longfold", "forward_only", "16", "32"):
        assert f">{name}</text>" in picture.read_text()


def test_a_page_from_raw_numbers(dry_run):
    folder, result = dry_run
    again = run_bench("--from-json", folder / "run.json")
    assert again.returncode == 0 and again.stdout == result.stdout
    run = json.loads((folder / "run.json").read_text())
    run["results"] = [r for r in run["results"] if r["contender"] == "longfold"]
    for r in run["results"]:
        r["times_ms"] = {which: [1e-3] for which in r["times_ms"]}
    (folder / "faster.json").write_text(json.dumps(run))
    both = run_bench("--from-json", folder / "run.json", folder / "faster.json")
    verdicts, times, _ = tables(both.stdout)
    assert all(row["ahead of all"] == "yes" and "of another run" in row["forward"] for row in verdicts)
    assert {row["run"] for row in times if row["by"] == "longfold"} == {"2"}
    assert {row["run"] for row in times if row["by"] == "eager"} == {"1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "square"], "expected --shapes among triangle_128, .*, got 'square'"),
        (["--contenders", "magic"], "expected --contenders among longfold, .*, got 'magic'"),
        (["--contenders", "=x"], "expected NAME=MODULE:FUNCTION in --contenders, got '=x'"),
        (["--seconds", "0"], "expected --seconds and --patience above 0"),
        (
            ["--contenders", "x=nothing:f"],
            r"expected x to be there, it is not installed \(no Python module nothing\); .*",
        ),
        (["--from-json", "/nowhere"], "expected a file of --json in /nowhere, got .*"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = run_bench(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert re.fullmatch(f"evoformer_cuda: {message}\n", result.stderr)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu():
    result = run_bench("--contenders", "longfold")
    assert result.returncode == 2
    assert result.stderr == (
        "evoformer_cuda: no GPU here that torch can use; --device cpu tries the program itself, on tiny shapes\n"
    )
