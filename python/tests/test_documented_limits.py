"""What docs/python.md says of the functions beside what they compute."""

import pytest
import torch

from longfold import evoformer_attention, openfold
from longfold.cuequivariance import triangle_attention

B, N, H, L, D = 1, 2, 2, 3, 4


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


def test_a_row_that_nobody_masked_can_be_fully_masked():
    q, k, v = (randn(B, N, L, H, D) for _ in range(3))
    bias = torch.full((L,), -6e8)
    assert torch.count_nonzero(evoformer_attention(q, k, v, [bias])) == 0
    assert torch.count_nonzero(evoformer_attention(q, k, v, [bias / 2])) > 0


@pytest.mark.parametrize("low", [-65504.0, -1e4])
def test_whole_rows_of_low_float16_are_not_fully_masked(low):
    q, k, v = (randn(B, N, L, H, D).half() for _ in range(3))
    mask = torch.full((B, N, 1, 1, L), low, dtype=torch.float16)
    out = evoformer_attention(q, k, v, [mask])
    assert (out - evoformer_attention(q, k, v)).abs().max() < 0.02 and torch.count_nonzero(out) > 0


def test_outputs_are_views_whose_next_step_copies_nothing():
    q, k, v, bias = (*(randn(B, N, H, L, D) for _ in range(3)), randn(B, 1, H, L, L))
    for out in (triangle_attention(q, k, v, bias), openfold.attention(q, k, v, [bias])):
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            out.view(B, N, H, L * D)
        back = out.transpose(2, 3)
        assert back.is_contiguous() and back.reshape(B, N, L, H * D).data_ptr() == out.data_ptr()
    assert openfold.evo_attention(q, k, v, [bias]).is_contiguous()


def test_float32_is_kept_outside_of_autocast():
    q, k, v = (randn(N, H, L, D) for _ in range(3))
    assert openfold.evo_attention(q, k, v).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.autocast("cuda", enabled=False):
            assert openfold.evo_attention(q, k, v).dtype == torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert openfold.evo_attention(q, k, v).dtype == torch.float32
