"""longfold eval: the same numbers as training and an independent count give, on any data set, in any form."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from runs import metrics

LETTERS = "ACGT"


def write_fasta(path, seed, length):
    """Bases that each depend on the one before, so that order 1 has something to learn."""
    generator = np.random.default_rng(seed)
    bases = [0]
    for _ in range(length - 1):
        bases.append((bases[-1] + 1) % 4 if generator.random() < 0.5 else int(generator.integers(4)))
    path.write_text(">made-up\n" + "".join(LETTERS[base] for base in bases) + "\n")
    return bases


@pytest.fixture
def nucleotides(longfold, tmp_path):
    """Two data sets, a and b: prefixes and bases."""
    sets = {}
    for name, seed, length in (("a", 1, 3000), ("b", 2, 1001)):
        bases = write_fasta(tmp_path / f"{name}.fa", seed, length)
        prefix = tmp_path / name
        assert longfold("prepare", tmp_path / f"{name}.fa", "-o", prefix, "--tokenizer", "nucleotide").code == 0
        sets[name] = (prefix, bases)
    return sets


def evaluate(longfold, *arguments):
    done = longfold("eval", *arguments, "--json", "--threads", 1)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_the_validation_loss_of_the_run(longfold, recipe, data, tmp_path):
    path = recipe({"train.validation": str(data), "train.validate_every": 2, "train.checkpoint_every": 2})
    assert longfold("train", path).code == 0
    for line in metrics(tmp_path / "run"):
        if line["validation_loss"] is None:
            continue
        checkpoint = tmp_path / "run" / f"step-{line['step']:08d}"
        shown = evaluate(longfold, checkpoint, "--data", data, "--order", -1)
        assert shown["loss"] == pytest.approx(line["validation_loss"], rel=1e-12)
        assert shown["step"] == line["step"] and shown["tokens"] == 16_166 and "baselines" not in shown


def test_held_out_part_beside_the_summary_of_training(longfold, recipe, tmp_path):
    done = longfold("train", recipe())
    held_out, uniform, order_0, order_2 = (
        float(re.search(rf"^  +{name} +(\d\.\d{{4}})", done.stdout, flags=re.MULTILINE)[1])
        for name in ("held out", "uniform", "Markov order 0", "Markov order 2")
    )
    shown = evaluate(longfold, tmp_path / "run", "--order", 2)
    baselines = shown["baselines"]
    assert list(baselines) == ["uniform", "Markov order 0", "Markov order 1", "Markov order 2"]
    assert shown["tokens"] == 1616 and shown["bases_per_token"] == 3
    assert shown["loss"] == pytest.approx(held_out, abs=6e-5)
    assert baselines["uniform"]["loss"] == pytest.approx(uniform, abs=6e-5)
    assert baselines["Markov order 0"]["loss"] == pytest.approx(order_0, abs=6e-5)
    assert baselines["Markov order 2"]["loss"] == pytest.approx(order_2, abs=6e-5)
    for row in (shown, *baselines.values()):
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"]))
        assert row["bits_per_base"] == pytest.approx(row["loss"] / math.log(2) / 3)
    table = longfold("eval", tmp_path / "run", "--order", 2)
    assert f"  model                      {held_out:.4f}" in table.stdout
    assert "the held-out part: 1,616 tokens of 3 bases\n" in table.stdout
    assert "without the held-out part\n" in table.stdout


def test_baselines_are_trained_on_one_set_and_scored_on_another(longfold, recipe, nucleotides, tmp_path):
    (a, bases_a), (b, bases_b) = nucleotides["a"], nucleotides["b"]
    assert longfold("train", recipe({"data.path": str(a), "data.held_out": 0.2})).code == 0
    shown = evaluate(longfold, tmp_path / "run", "--data", b, "--order", 1)
    trained = bases_a[:2400]  # the held-out fifth of a is nobody's
    counts = Counter(trained[1:])
    pairs, contexts = Counter(zip(trained, trained[1:], strict=False)), Counter(trained[:-1])
    assert shown["baselines_trained_on"] == f"{a}, without the held-out part" and shown["data"] == str(b)
    # Where every context is frequent, smoothing hardly matters.
    order_0 = -np.mean([math.log(counts[base] / 2399) for base in bases_b[1:]])
    order_1 = -np.mean([math.log(pairs[p] / contexts[p[0]]) for p in zip(bases_b, bases_b[1:], strict=False)])
    assert shown["baselines"]["Markov order 0"]["loss"] == pytest.approx(order_0, abs=2e-3)
    assert shown["baselines"]["Markov order 1"]["loss"] == pytest.approx(order_1, abs=2e-3)
    assert shown["tokens"] == 1000 and shown["bases_per_token"] == 1
    assert shown["baselines"]["uniform"]["bits_per_base"] == pytest.approx(2)
    other = evaluate(longfold, tmp_path / "run", "--data", b, "--train", b, "--order", 1)
    assert other["loss"] == shown["loss"] and other["baselines_trained_on"] == str(b)
    assert other["baselines"]["Markov order 1"]["loss"] < shown["baselines"]["Markov order 1"]["loss"]


def test_window_length_and_the_best_checkpoint(longfold, recipe, data, tmp_path):
    worse = {"optimizer.learning_rate": 3, "optimizer.warmup_steps": 4, "train.steps": 8}
    path = recipe({**worse, "train.validation": str(data), "train.validate_every": 2, "train.keep_last": 1})
    assert longfold("train", path).code == 0
    shown = {line["step"]: line["validation_loss"] for line in metrics(tmp_path / "run")}
    best = min((step for step in shown if shown[step] is not None), key=shown.get)
    assert best < 8, "else this shows nothing"
    found = evaluate(longfold, tmp_path / "run", "--best", "--data", data, "--order", -1)
    assert found["step"] == best and found["loss"] == pytest.approx(shown[best], rel=1e-12)
    assert evaluate(longfold, tmp_path / "run", "--data", data, "--order", -1)["step"] == 8
    whole = evaluate(longfold, tmp_path / "run", "--best", "--data", data, "--order", -1, "--sequence_length", 0)
    assert whole["tokens"] == found["tokens"] and whole["loss"] != found["loss"]


def test_what_cannot_be_is_one_line(longfold, recipe, data, nucleotides, tmp_path):
    path = recipe({"data.held_out": 0.0, "train.steps": 2})
    assert longfold("train", path).code == 0
    run = tmp_path / "run"
    before = (run / "metrics.jsonl").read_text()
    assert "expected --data, a data set to evaluate on" in longfold("eval", run).one_line_error(2)
    message = longfold("eval", run, "--data", nucleotides["a"][0]).one_line_error(2)
    assert "the model has the tokens of genslm69 (" in message and "has nucleotide (" in message
    assert "expected a checkpoint or a folder with some" in longfold("eval", tmp_path).one_line_error(2)
    assert "that takes train.validation" in longfold("eval", run, "--best", "--data", data).one_line_error(2)
    assert "--order" in longfold("eval", run, "--data", data, "--order", 9).one_line_error(2)
    message = longfold("eval", run, "--data", data, "--order", -1, "--train", data).one_line_error(2)
    assert message == "--train is for baselines, --order -1 has none"
    assert (run / "metrics.jsonl").read_text() == before
