"""The `longfold` fixture runs the program as a user would."""

import json
import os
import pathlib
import re
import signal
import subprocess
from dataclasses import dataclass

import pytest
from runs import SMALL

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Said after a second, on a busy machine.
TAKES_LONG = re.compile(r"(checking|planning|reading|saving|step) .*, \d+:\d\d")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "nightly: takes long, and shorter tests guard the same; `make test` leaves it out"
    )


@dataclass
class Result:
    code: int
    stdout: str
    stderr: str

    def one_line_error(self, code: int) -> str:
        """The message, after checking that it is all that was printed to standard error, but for what takes long."""
        assert self.code == code, (self.code, self.stdout, self.stderr)
        lines = [line for line in self.stderr.splitlines() if not TAKES_LONG.fullmatch(line)]
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("longfold: ")
        return lines[0].removeprefix("longfold: ")


@pytest.fixture(scope="session")
def program() -> pathlib.Path:
    path = pathlib.Path(os.environ.get("LONGFOLD_PROGRAM", ROOT / "build" / "release" / "longfold"))
    assert path.exists(), f"{path} is missing: run `make build`, or set LONGFOLD_PROGRAM"
    return path


@pytest.fixture
def longfold(program):
    """longfold("prepare", "x.fa", stdin=b"...") -> Result. file_limit is the largest file it may write, in bytes."""

    def run(
        *arguments, stdin: bytes = b"", file_limit: int | None = None, timeout: float = 300, cwd=None, env=None
    ) -> Result:
        def limit_files():
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        done = subprocess.run(
            [str(program), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            env=os.environ | (env or {}),
            preexec_fn=limit_files if file_limit is not None else None,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def phage_lambda() -> pathlib.Path:
    return ROOT / "data" / "phage-lambda.fa.gz"


@pytest.fixture(scope="session")
def data(program, tmp_path_factory):
    """Phage lambda as codons."""
    prefix = tmp_path_factory.mktemp("data") / "lambda"
    genome = ROOT / "data" / "phage-lambda.fa.gz"
    subprocess.run([program, "prepare", genome, "--output", prefix], check=True, capture_output=True)
    return prefix


@pytest.fixture
def recipe(data, tmp_path):
    """recipe({"train.steps": 3}) writes a recipe that differs from SMALL in that."""

    def write(changes=None):
        sections = {}
        values = {**SMALL, "data.path": str(data), "train.output": str(tmp_path / "run"), **(changes or {})}
        for name, value in values.items():
            section, key = name.split(".")
            sections.setdefault(section, []).append(f"{key} = {json.dumps(value)}")
        path = tmp_path / "recipe.toml"
        path.write_text("\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in sections.items()) + "\n")
        return path

    return write
