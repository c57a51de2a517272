"""Exported checkpoints in Hugging Face's transformers: the same loss and the same gradients as training had."""

import json
import math
import random

import numpy as np
import pytest
import torch
import transformers
from runs import metrics

CONSTANT_RATE = {
    "optimizer.learning_rate": 0.01,
    "optimizer.final_learning_rate": 0.01,
    "optimizer.warmup_steps": 0,
}
MODELS = {
    "gpt-neox": {"model.family": "gpt-neox"},
    "gpt-neox sequential": {
        "model.family": "gpt-neox",
        "model.parallel_residual": False,
        "model.rotary_pct": 0.5,
        "model.activation": "gelu",
        "model.rotary_base": 500.0,
    },
    "gpt2": {"model.family": "gpt2"},
    "gpt2 untied": {"model.family": "gpt2", "model.tie_embeddings": False, "model.norm_epsilon": 1e-3},
    "llama": {"model.family": "llama"},
    "llama grouped": {"model.family": "llama", "model.num_kv_heads": 2, "model.rotary_scaling": 4.0},
    "llama biased": {"model.family": "llama", "model.linear_bias": True, "model.num_kv_heads": 1},
}
CLASSES = {"gpt-neox": "GPTNeoXForCausalLM", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}


@pytest.fixture
def genome(longfold, tmp_path):
    """500 codons in one record."""
    path = tmp_path / "genome.fa"
    path.write_text(">random\n" + "".join(random.Random(1).choices("ACGT", k=1500)) + "\n")
    assert longfold("prepare", path, "-o", tmp_path / "genome").code == 0
    return tmp_path / "genome"


@pytest.fixture
def write_recipe(recipe, genome):
    """A model of 2 layers and 4 heads on that genome, whole, but for the changes."""

    def write(changes):
        sizes = {"model.num_layers": 2, "model.hidden_size": 32, "model.num_heads": 4, "model.ffn_size": 48}
        data = {"data.path": str(genome), "data.sequence_length": 0, "data.batch_size": 1}
        return recipe({**sizes, **data, **CONSTANT_RATE, "model.init_std": 0.2, **changes})

    return write


@pytest.mark.parametrize("name", MODELS)
def test_transformers_gives_the_same_loss_and_gradients(longfold, write_recipe, genome, tmp_path, name):
    path = write_recipe(MODELS[name])
    assert longfold("train", path, "--train.steps", 2).code == 0
    done = longfold("export", tmp_path / "run", "-o", tmp_path / "exported")
    assert done.code == 0, done.stderr
    assert longfold("train", path, "--train.steps", 3, "--resume").code == 0
    ours = metrics(tmp_path / "run")[2]  # of the parameters that were exported

    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "exported", dtype=torch.float32, output_loading_info=True
    )
    assert type(model).__name__ == CLASSES[MODELS[name]["model.family"]] and type(model).__name__ in done.stdout
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    tokens = torch.from_numpy(np.fromfile(f"{genome}.bin", dtype=np.uint16).astype(np.int64))
    trained = len(tokens) - math.floor(0.1 * len(tokens))  # labels from there on are held out
    logits = model(tokens[None]).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[: trained - 1], tokens[1:trained])
    loss.backward()
    norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters() if p.grad is not None))
    assert loss.item() == pytest.approx(ours["loss"], rel=1e-5)
    assert norm == pytest.approx(ours["grad_norm"], rel=1e-4)


def test_a_changed_weight_is_noticed(longfold, write_recipe, genome, tmp_path):
    """The comparison above can fail: half of the head rotated in place of a quarter moves the loss by far more."""
    path = write_recipe(MODELS["gpt-neox"])
    assert longfold("train", path, "--train.steps", 2).code == 0
    assert longfold("export", tmp_path / "run", "-o", tmp_path / "exported").code == 0
    tokens = torch.from_numpy(np.fromfile(f"{genome}.bin", dtype=np.uint16).astype(np.int64))[None]

    def loss(**changes):
        config = json.loads((tmp_path / "exported" / "config.json").read_text())
        config["rope_parameters"] |= changes
        (tmp_path / "exported" / "config.json").write_text(json.dumps(config))
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported", dtype=torch.float32)
        with torch.no_grad():
            return model(tokens, labels=tokens).loss.item()

    right = loss()
    assert loss(partial_rotary_factor=0.5) != pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.norm": "rms"}, 'model.norm is "rms", a model of family gpt-neox has "layer" there'),
        ({"model.activation": "swiglu"}, 'model.activation is "swiglu", a model of family gpt-neox has "gelu" or'),
        ({"model.linear_bias": False}, "model.linear_bias is false, a model of family gpt-neox has true there"),
        ({"model.num_kv_heads": 2}, "model.num_kv_heads is 2, a model of family gpt-neox has as many as num_heads"),
        (
            {"model.family": "llama", "model.parallel_residual": True},
            "model.parallel_residual is true, a model of family llama has false there",
        ),
    ],
)
def test_what_has_no_like_there_is_refused(longfold, write_recipe, tmp_path, changes, words):
    assert longfold("train", write_recipe(changes), "--train.steps", 1).code == 0
    message = longfold("export", tmp_path / "run", "-o", tmp_path / "exported").one_line_error(2)
    assert message.startswith("cannot export: ") and words in message
    assert not (tmp_path / "exported").exists()


def test_folders_that_are_there_or_not(longfold, write_recipe, tmp_path):
    message = longfold("export", tmp_path / "nowhere", "-o", tmp_path / "exported").one_line_error(2)
    assert message == f"expected a checkpoint or a folder with some, got '{tmp_path / 'nowhere'}'"
    assert longfold("train", write_recipe({}), "--train.steps", 1).code == 0
    (tmp_path / "exported").mkdir()
    message = longfold("export", tmp_path / "run", "-o", tmp_path / "exported").one_line_error(2)
    assert "is there already" in message and list((tmp_path / "exported").iterdir()) == []
