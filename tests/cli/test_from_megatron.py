"""docs/from-megatron-deepspeed.md: every key that it names is one, and takes the value that it shows."""

import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "from-megatron-deepspeed.md"
KEYS = re.findall(r"`((?:model|data|optimizer|train|compute|memory|parallel)\.\w+)(?: = ([^`]+))?`", PAGE.read_text())


@pytest.fixture(scope="module")
def options(program):
    import subprocess

    return subprocess.run([program, "train", "--help"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("key", sorted({key for key, _ in KEYS}))
def test_keys_are_there(options, key):
    assert re.search(rf"--{re.escape(key)}\b", options)


def test_values_are_taken(longfold, recipe):
    assert len(KEYS) > 50
    for key, value in KEYS:
        if not value:
            continue
        together = {"memory.checkpoint": "full", "memory.offload_optimizer": "host", "compute.dtype": "bf16"}
        words = [word for pair in (together | {key: value.strip('"')}).items() for word in ("--" + pair[0], pair[1])]
        if key == "parallel.ulysses" or key == "parallel.ring":
            words += ["--model.num_heads", "4"]
        done = longfold("plan", recipe(), "--device", "h100", "--seq-length", 256, "--json", *words)
        assert done.code == 0, (key, value, done.stderr)
