"""Settings for every test of the Python package."""

import os
import tempfile

import pytest


@pytest.fixture(scope="session", autouse=True)
def fresh_compiler_cache():
    """torch.compile remembers graphs across processes, also those of an older version of our ops."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        yield
