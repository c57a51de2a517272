"""`longfold bench step`, and the comparison that calls it."""

import json
import pathlib
import subprocess
import sys

COMPARISON = pathlib.Path(__file__).resolve().parents[2] / "bench" / "training_step.py"


def test_it_times_steps_and_gives_their_losses(longfold):
    shown = longfold("bench", "step", "--tokens", 64, "--steps", 2, "--threads", 1, "--json")
    assert shown.code == 0, shown.stderr
    result = json.loads(shown.stdout)
    assert len(result["seconds"]) == 2 and min(result["seconds"]) > 0
    assert result["tokens"] == 64 and result["threads"] == 1 and result["linear"] in ("torch", "onednn")
    assert 3.5 < result["losses"][0] < 5 and result["losses"][-1] < result["losses"][0]
    again = json.loads(longfold("bench", "step", "--tokens", 64, "--steps", 2, "--threads", 1, "--json").stdout)
    assert again["losses"] == result["losses"]


def test_a_profile_says_where_the_time_goes(longfold):
    done = longfold("bench", "step", "--tokens", 64, "--steps", 1, "--threads", 1, "--profile")
    assert (done.code, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()[1:]
    assert head.split()[:3] == ["ms", "%", "calls"]
    names = [row.split()[3] for row in rows]
    assert "longfold::causal_attention_backward" in names and "aten::_fused_adamw_" in names
    shares = [float(row.split()[1]) for row in rows]
    assert shares == sorted(shares, reverse=True) and 90 < sum(shares) <= 100.5


def test_the_comparison_writes_its_page(tmp_path):
    arguments = ["genslm-25m:32", "--steps", "1", "--rounds", "1", "--threads", "1", "--write", str(tmp_path)]
    done = subprocess.run([sys.executable, str(COMPARISON), *arguments], capture_output=True, text=True, check=True)
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| genslm")]
    assert [row[2].strip() for row in rows] == ["longfold", "transformers"]
    assert float(rows[0][4]) > 0 and float(rows[0][5].split()[0]) > 0
    (page,) = tmp_path.iterdir()
    assert "## Where the time of a step goes" in page.read_text() and "aten::" in page.read_text()


def test_what_cannot_be_is_one_line(longfold):
    both = longfold("bench", "step", "--json", "--profile").one_line_error(2)
    assert both == "expected --json or --profile, got both"
    assert longfold("bench", "step", "--tokens", 0).one_line_error(2) == "expected --tokens to be at least 1, got 0"
    wrong = longfold("bench", "step", "--linear", "mkl").one_line_error(2)
    assert wrong == 'expected compute.linear to be auto, torch or onednn, got "mkl"'
    assert "genslm-25m" in longfold("bench", "step", "--preset", "genslm-1m").one_line_error(2)
