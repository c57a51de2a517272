"""The demo, shortened: `make demo` runs the same script."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_demo_runs_to_its_last_line(program):
    demo = subprocess.run(
        ["bash", "examples/demo.sh", "--train.steps", "2", "--optimizer.warmup_steps", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert demo.returncode == 0, demo.stderr
    for words in (
        "48,502",
        "16,167 tokens in 1 sequence",
        "trained on",
        "held out",
        "Markov order 2",
        "tokens/s",
        "never built",
        "+ optimizer, file",
        "4,208  read",
        "build/ecoli-genes-test",
        "Markov order 5",
        "158 sequences x 614 columns",
        "peak extra memory",
        "error of gradient of pair",
        "docs/architecture.md",
    ):
        assert words in demo.stdout, words
