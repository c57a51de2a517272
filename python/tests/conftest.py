"""Settings for every test of the Python package."""

import os
import sys
import tempfile

import pytest
import torch

from longfold import evoformer_attention


def pytest_configure(config):
    config.addinivalue_line("markers", "cpu_only: has nothing to do with other devices")
    config.addinivalue_line(
        "markers", "nightly: takes long, and shorter tests guard the same; `make test` leaves it out"
    )


def why_no_cuda() -> str:
    """Empty where the op runs on a GPU."""
    if not torch.cuda.is_available():
        return "no GPU here that torch can use"
    try:
        evoformer_attention(*(torch.zeros(1, 1, 1, 1, 1, device="cuda") for _ in range(3)))
    except RuntimeError as error:
        if "the CUDA kernels of this build are missing" in str(error):
            return str(error)
        raise
    return ""


@pytest.fixture(scope="module", autouse=True)
def nothing_compiled():
    """torch.compile gives up after eight variants of a function, counted over all that the process has tested."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.fixture(scope="session")
def no_cuda() -> str:
    return why_no_cuda()


@pytest.fixture(params=["cpu", "cuda"])
def device(request, no_cuda):
    """Where the test's tensors are made unless it says otherwise: each test that uses this runs on both."""
    if request.param == "cpu":
        yield torch.device("cpu")
        return
    if request.node.get_closest_marker("cpu_only"):
        pytest.skip("on the CPU alone")
    if no_cuda:
        pytest.skip(no_cuda)
    torch.set_default_device("cuda")
    yield torch.device("cuda")
    torch.set_default_device(None)


@pytest.fixture(scope="session", autouse=True)
def fresh_compiler_cache():
    """torch.compile remembers graphs across processes, also those of an older version of our ops."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        yield
