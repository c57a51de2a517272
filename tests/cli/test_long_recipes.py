"""recipes/h100 and recipes/cpu: each fits, and takes what its head says."""

import json
import pathlib
import re

import pytest

RECIPES = pathlib.Path(__file__).resolve().parents[2] / "recipes"


def recipes(folder):
    return pytest.mark.parametrize("path", sorted((RECIPES / folder).glob("*.toml")), ids=lambda path: path.stem)


def planned(longfold, path, *options):
    assert f'output = "build/runs/{path.stem}"' in path.read_text()
    done = longfold("plan", path, "--model.vocab_size", 69, "--json", *options)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)


@recipes("h100")
def test_what_they_take_of_an_h100(longfold, path):
    plan = planned(longfold, path, "--device", "h100")
    device, host = (float(x) for x in re.search(r"device ([\d.]+) GiB, host ([\d.]+) GiB", path.read_text()).groups())
    assert plan["device_bytes"] <= 79 << 30
    assert plan["device_bytes"] / (1 << 30) == pytest.approx(device, rel=0.05)
    assert plan["host_bytes"] / (1 << 30) == pytest.approx(host, rel=0.01)


@recipes("cpu")
def test_what_they_take_of_a_cpu(longfold, path):
    plan = planned(longfold, path)
    memory, files = re.search(r"memory (\d+) MiB, files (none|\d+)", path.read_text()).groups()
    assert plan["device_bytes"] / (1 << 20) == pytest.approx(float(memory), rel=0.01)
    assert plan["file_bytes"] / (1 << 20) == pytest.approx(0 if files == "none" else float(files), rel=0.01)
