"""recipes/h100: each fits, and takes what its head says."""

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "h100").glob("*.toml")), ids=lambda path: path.stem)
def test_their_heads_say_what_they_take(longfold, path):
    done = longfold("plan", path, "--device", "h100", "--model.vocab_size", 69, "--json")
    assert done.code == 0, done.stderr
    plan = json.loads(done.stdout)
    device, host = (float(x) for x in re.search(r"device ([\d.]+) GiB, host ([\d.]+) GiB", path.read_text()).groups())
    assert plan["device_bytes"] <= 79 << 30
    assert plan["device_bytes"] / (1 << 30) == pytest.approx(device, rel=0.05)
    assert plan["host_bytes"] / (1 << 30) == pytest.approx(host, rel=0.01)
    assert f'output = "build/runs/{path.stem}"' in path.read_text()
