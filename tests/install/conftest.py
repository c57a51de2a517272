"""The build that the tests install from."""

import os
import pathlib

import pytest
from outside import ROOT


@pytest.fixture(scope="session")
def build() -> pathlib.Path:
    path = pathlib.Path(os.environ.get("LONGFOLD_BUILD", ROOT / "build" / "release"))
    assert path.exists(), f"{path} is missing: run `make build`, or set LONGFOLD_BUILD"
    return path
