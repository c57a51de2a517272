"""`compute.device`: what a run computes on."""

import pytest
import torch
from runs import losses, model_bytes


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(longfold, recipe, tmp_path):
    error = longfold("train", recipe({"compute.device": "cuda"})).one_line_error(2)
    assert error.startswith('compute.device is "cuda", but ')
    assert not (tmp_path / "run").exists()
    done = longfold("train", recipe({"compute.device": "auto"}))
    assert done.code == 0 and "\ndevice       auto: cpu\n" in done.stdout
    run = tmp_path / "run"
    assert longfold("eval", run, "--order", -1, "--device", "auto").code == 0
    error = longfold("eval", run, "--order", -1, "--device", "cuda").one_line_error(2)
    assert error.startswith('compute.device is "cuda", but ')


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestOnAGpu:
    def test_its_types(self, longfold, recipe):
        error = longfold("train", recipe({"compute.device": "cuda"})).one_line_error(2)
        assert error.startswith("expected compute.dtype to be bf16 or fp16 on a GPU")

    @pytest.mark.parametrize("engine", ["flash", "cudnn"])
    @pytest.mark.parametrize("dtype", ["bf16", "fp16"])
    def test_losses_are_those_of_the_cpu(self, longfold, recipe, tmp_path, dtype, engine):
        same = {"train.steps": 20, "compute.dtype": dtype, "optimizer.learning_rate": 3e-3}
        here, there = tmp_path / "here", tmp_path / "there"
        assert longfold("train", recipe(same), "--train.output", there).code == 0
        on_gpu = {
            **same,
            "compute.device": "cuda",
            "compute.attention": engine,
            "compute.deterministic": engine != "cudnn",
        }
        done = longfold("train", recipe(on_gpu), "--train.output", here)
        assert done.code == 0, done.stderr
        assert f"\ndevice       cuda, attention by {engine}, " in done.stdout
        for ours, theirs in zip(losses(here), losses(there), strict=True):
            assert ours[1] == pytest.approx(theirs[1], abs=5e-3)

    def test_no_option_is_ignored(self, longfold, recipe):
        path = recipe({"compute.device": "cuda", "compute.dtype": "bf16", "compute.linear": "onednn"})
        error = longfold("train", path).one_line_error(2)
        assert error == 'expected compute.linear to be auto or torch on a GPU, got "onednn"'

    @pytest.mark.parametrize("engine", ["flash", "cudnn"])
    def test_it_repeats_and_goes_on_with_the_same_bits(self, longfold, recipe, tmp_path, engine):
        path = recipe(
            {
                "compute.device": "cuda",
                "compute.dtype": "bf16",
                "compute.attention": engine,
                "optimizer.schedule": "constant",
            }
        )
        for name in ("a", "b"):
            assert longfold("train", path, "--train.output", tmp_path / name).code == 0
        assert model_bytes(tmp_path / "a", 6) == model_bytes(tmp_path / "b", 6)
        assert longfold("train", path, "--train.output", tmp_path / "c", "--train.steps", 3).code == 0
        assert longfold("train", path, "--train.output", tmp_path / "c", "--resume").code == 0
        assert model_bytes(tmp_path / "c", 6) == model_bytes(tmp_path / "a", 6)

    def test_eval_computes_on_the_device_of_the_run(self, longfold, recipe, tmp_path):
        assert longfold("train", recipe({"compute.device": "cuda", "compute.dtype": "bf16"})).code == 0
        on_gpu = longfold("eval", tmp_path / "run", "--order", -1)
        assert on_gpu.code == 0 and "\ndevice       cuda, attention by " in on_gpu.stdout, on_gpu.stderr
        on_cpu = longfold("eval", tmp_path / "run", "--order", -1, "--device", "cpu")
        assert on_cpu.code == 0 and "\ndevice " not in on_cpu.stdout, on_cpu.stderr
        here, there = (
            float(next(x for x in done.stdout.splitlines() if x.startswith("  model")).split()[1])
            for done in (on_gpu, on_cpu)
        )
        assert here == pytest.approx(there, abs=5e-3)

    def test_its_memory_can_be_limited(self, longfold, recipe):
        path = recipe({"compute.device": "cuda", "compute.dtype": "bf16"})
        line = longfold("train", path, "--memory-limit", "1MiB").one_line_error(2)
        assert "more than the limit of 1.00 MiB; most of it are " in line, line
        line = longfold("train", path, "--memory-limit", "1MiB", "--force").one_line_error(1)
        assert "out of memory" in line and "; the plan was " in line, line
        assert longfold("train", path, "--memory-limit", "2GiB").code == 0
