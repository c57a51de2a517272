"""Commands as the docs give them, run outside the checkout's own Python package."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def documented(name: str) -> str:
    """The commands of the block "sh <name>" in docs/install.md."""
    (block,) = re.findall(rf"```sh {name}\n(.*?)```", (ROOT / "docs/install.md").read_text(), flags=re.DOTALL)
    return block


def attempt(command: list | str, **options) -> subprocess.CompletedProcess:
    """Runs a command, or a shell script."""
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
