"""The same bits for any number of threads, run after run; a row's bits depend on nothing but the row."""

import pytest
import torch
from attention import Case, cotangents, make_inputs

from longfold import evoformer_attention

pytestmark = pytest.mark.usefixtures("device")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]

CASES = [
    Case("several_panels", b=2, n=7, lq=70, lk=90, h=3, d=16),
    Case("one_head_many_rows", n=33, lq=37, h=1, d=8),
    Case("one_row", n=1, lq=150, h=2, d=24),
    Case("long_rows_in_parts", n=3, lq=66, lk=1030, h=1, d=128),
    Case("slab_by_blocks", n=2, lq=17, lk=8200, h=1, d=8),
    Case("general_bias", b=2, n=7, lq=70, lk=90, h=3, d=16, biases=("mask", "pair", "general")),
]


def everything(inputs: dict, cotangent, fully_masked: str = "zero") -> dict[str, torch.Tensor]:
    """out, log_sum_exp and every gradient, with one of log_sum_exp too."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    q, k, v, *biases = leaves.values()
    out, lse = evoformer_attention(q, k, v, biases, fully_masked=fully_masked, return_lse=True)
    grads = torch.autograd.grad((out, lse), list(leaves.values()), (cotangent, torch.cos(lse.detach().clamp(min=-1e3))))
    results = {"out": out.detach(), "log_sum_exp": lse.detach()}
    return results | {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}


def same(results: dict, expected: dict) -> None:
    for name, value in expected.items():
        assert value.isfinite().all() and value.count_nonzero() > 0, name
        assert torch.equal(results[name], value), name


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_number_of_threads(case, dtype, threads):
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    threads(1)
    expected = everything(inputs, cotangent)
    for num_threads in (2, 3, 7):
        threads(num_threads)
        assert torch.get_num_threads() == num_threads
        same(everything(inputs, cotangent), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_hundred_runs(dtype, threads):
    """With more threads than work of one size, who computes what differs from run to run."""
    case = Case("small", b=2, n=5, lq=20, lk=33, h=2, d=8, biases=("mask", "pair", "general"))
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    threads(3)
    expected = everything(inputs, cotangent)
    for _ in range(100):
        same(everything(inputs, cotangent), expected)


@pytest.mark.parametrize("fully_masked", ["zero", "mean"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_chunks_of_rows(case, dtype, fully_masked):
    """All that belongs to a row: only the pair bias, which rows share, has a gradient that is a sum over them."""
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    inputs["mask"][:, case.n // 2] = -float("inf")  # a fully masked row among the others
    whole = everything(inputs, cotangent, fully_masked)
    for chunk in sorted({1, 2, 3, case.n} & set(range(1, case.n + 1))):
        parts = []
        for first in range(0, case.n, chunk):
            rows = slice(first, first + chunk)
            part = {name: value[:, rows] if name != "pair" else value for name, value in inputs.items()}
            parts.append(everything(part, cotangent[:, rows], fully_masked))
        for name in whole.keys() - {"grad_pair"}:
            assert torch.equal(torch.cat([part[name] for part in parts], 1), whole[name]), (name, chunk)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_order_of_rows_and_batches(dtype):
    case = Case("order", b=3, n=6, lq=40, lk=70, h=2, d=16)
    inputs, cotangent = make_inputs(case, dtype), cotangents(case, dtype)
    whole = everything(inputs, cotangent)
    order, batches = torch.tensor([4, 0, 5, 2, 1, 3]), torch.tensor([2, 0, 1])

    def moved(name, value):
        value = value[batches]
        return value if name in ("pair", "grad_pair") else value[:, order]

    results = everything({n: moved(n, t) for n, t in inputs.items()}, moved("", cotangent))
    for name in ("out", "log_sum_exp", "grad_q", "grad_k", "grad_v", "grad_mask"):
        assert torch.equal(results[name], moved(name, whole[name])), name
