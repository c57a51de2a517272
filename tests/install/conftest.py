"""What the tests of installed packages share: commands as the docs give them, and the build that is installed."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def documented(language: str) -> str:
    """The commands of the one block of that name in docs/install.md."""
    (block,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/install.md").read_text(), flags=re.DOTALL)
    return block


def attempt(command: list | str, **options) -> subprocess.CompletedProcess:
    """Runs a command, or a shell script, outside the checkout's Python package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= options.pop("env", {})
    if isinstance(command, str):
        command = ["bash", "-euo", "pipefail", "-c", command]
    command = [str(word) for word in command]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, env=environment, **options)


def run(command: list | str, **options) -> str:
    done = attempt(command, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def build() -> pathlib.Path:
    path = pathlib.Path(os.environ.get("LONGFOLD_BUILD", ROOT / "build" / "release"))
    assert path.exists(), f"{path} is missing: run `make build`, or set LONGFOLD_BUILD"
    return path
