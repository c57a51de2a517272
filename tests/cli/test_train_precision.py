"""`compute.dtype`: training in 16 bits with parameters in fp32."""

import json

import pytest
from runs import losses, metrics, model_bytes
from safetensors.numpy import load_file


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_run_in_16_bits_is_near_one_in_32_and_goes_on_with_the_same_bits(longfold, recipe, tmp_path, dtype):
    longer = {"train.steps": 20, "optimizer.learning_rate": 3e-3, "optimizer.schedule": "constant"}
    path = recipe(longer | {"compute.dtype": dtype})
    whole, parts, exact = (["--train.output", tmp_path / name] for name in ("whole", "parts", "exact"))
    done = longfold("train", path, *whole)
    assert done.code == 0, done.stderr
    assert f"tokens, {dtype}, 1 threads" in done.stdout
    assert longfold("train", path, *parts, "--train.steps", 9).code == 0
    assert longfold("train", path, *parts, "--resume").code == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert model_bytes(tmp_path / "parts", 20) == model_bytes(tmp_path / "whole", 20)

    assert longfold("train", path, *exact, "--compute.dtype", "fp32").code == 0
    rounded, expected = metrics(tmp_path / "whole"), metrics(tmp_path / "exact")
    for ours, theirs in zip(rounded, expected, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=5e-3)
    assert rounded[-1]["loss"] != expected[-1]["loss"], "this was not computed in 16 bits"
    for tensor in load_file(tmp_path / "whole" / "step-00000020" / "model.safetensors").values():
        assert tensor.dtype == "float32"
    assert ("loss_scale" in rounded[0]) == (dtype == "fp16")


def test_another_type_at_a_resume_is_said(longfold, recipe):
    assert longfold("train", recipe(), "--train.steps", 3).code == 0
    done = longfold("train", recipe(), "--resume", "--compute.dtype", "bf16")
    assert done.code == 0, done.stderr
    assert 'compute.dtype was "fp32", now "bf16"' in done.stdout


# Few labels and large weights: gradients times the scale are no numbers in fp16, and the scale falls until they are.
def test_a_loss_scale_that_is_too_large_falls_and_is_kept(longfold, recipe, tmp_path):
    path = recipe({"compute.dtype": "fp16", "model.init_std": 2.0, "data.sequence_length": 8, "train.steps": 8})
    done = longfold("train", path, "--train.steps", 4)
    assert done.code == 0, done.stderr
    lines = metrics(tmp_path / "run")
    skipped = [line["skipped"] for line in lines]
    assert skipped[0] and not all(skipped), skipped
    for before, after in zip(lines, lines[1:], strict=False):
        assert after["loss_scale"] == before["loss_scale"] / (2 if before["skipped"] else 1)
    manifest = json.loads((tmp_path / "run" / "step-00000004" / "manifest.json").read_text())
    assert manifest["loss_scale"]["scale"] == lines[-1]["loss_scale"] / (2 if lines[-1]["skipped"] else 1)
    assert longfold("train", path, "--resume").code == 0
    assert metrics(tmp_path / "run")[4]["loss_scale"] == manifest["loss_scale"]["scale"]


def test_eval_computes_as_the_run_did(longfold, recipe, tmp_path):
    path = recipe({"compute.dtype": "bf16", "train.steps": 4})
    done = longfold("train", path)
    assert done.code == 0, done.stderr
    shown = longfold("eval", tmp_path / "run", "--json", "--order", -1, "--threads", 1)
    assert shown.code == 0, shown.stderr
    said = next(line for line in done.stdout.splitlines() if line.split()[:2] == ["held", "out"])
    assert f"{json.loads(shown.stdout)['loss']:.4f}" == said.split()[2]


def test_an_unknown_type_is_one_line(longfold, recipe):
    error = longfold("train", recipe(), "--compute.dtype", "half").one_line_error(2)
    assert error == 'expected compute.dtype to be fp32, bf16 or fp16, got "half"'
