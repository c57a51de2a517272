"""longfold train, from the outside: repeatable, resumable, and plain about what is wrong."""

import json
import math
import re
import shutil
import zlib

import numpy as np
import pytest
from runs import checkpoints, losses, metrics, model_bytes
from safetensors.numpy import load_file


def test_trains_and_reports(longfold, recipe, tmp_path):
    done = longfold("train", recipe({"train.steps": 12, "optimizer.learning_rate": 1e-2}))
    assert done.code == 0, done.stderr
    progress = [line for line in done.stderr.splitlines() if re.match(r"step \d+/", line)]
    assert len(progress) == 12
    lines = metrics(tmp_path / "run")
    for step, line in enumerate(progress, 1):
        held_out = lines[step - 1]["held_out_loss"]
        number, memory, left = r"[\d,]+", r"\d+(\.\d+)? (KiB|MiB|GiB)", r"\d+:\d\d"
        shown = "" if held_out is None else r", held out \d\.\d{4}"
        fields = rf"loss {lines[step - 1]['loss']:.4f}{shown}  {number} tokens/s  {memory}  {left} left"
        assert re.fullmatch(rf"step {step}/12  {fields}", line), line
    assert any(", held out " in line for line in progress) and progress[-1].endswith("  0:00 left")
    for words in ("memorisation", "held out", "uniform", "Markov order 0", "Markov order 2", "tokens/s", "never built"):
        assert words in done.stdout
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert abs(lines[0]["loss"] - math.log(69)) < 0.1 and lines[-1]["loss"] < lines[0]["loss"] - 0.05
    assert lines[-1]["memory_peak"] >= lines[-1]["memory_live"] > 0


def test_safetensors_package_reads_the_checkpoint(longfold, recipe, tmp_path):
    assert longfold("train", recipe()).code == 0
    folder = tmp_path / "run" / "step-00000006"
    manifest = json.loads((folder / "manifest.json").read_text())
    tensors = load_file(folder / "model.safetensors") | load_file(folder / "optimizer.safetensors")
    assert set(tensors) == set(manifest["tensors"])
    assert tensors["gpt_neox.embed_in.weight"].shape == (69, 32)
    for name, tensor in tensors.items():
        assert list(tensor.shape) == manifest["tensors"][name]["shape"]
        assert tensor.dtype == np.float32 and np.isfinite(tensor).all()
    assert manifest["step"] == 6 and manifest["recipe"]["model"]["hidden_size"] == 32
    assert manifest["tokenizer"]["name"] == "genslm69"


def test_two_processes_give_the_same_bits(longfold, recipe, tmp_path):
    for name in ("a", "b"):
        assert longfold("train", recipe(), "--train.steps", 20, "--train.output", tmp_path / name).code == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert model_bytes(tmp_path / "a", 20) == model_bytes(tmp_path / "b", 20)


def test_batches_in_turn_are_one_batch(longfold, recipe, tmp_path):
    assert longfold("train", recipe(), "--train.output", tmp_path / "whole", "--train.steps", 3).code == 0
    split = ("--data.batch_size", 1, "--train.accumulate", 2)
    done = longfold("train", recipe(), "--train.steps", 3, *split)
    assert done.code == 0 and "\nstep         2 batches of 1 x 256 tokens" in done.stdout
    for ours, theirs in zip(losses(tmp_path / "run"), losses(tmp_path / "whole"), strict=True):
        assert np.allclose(ours[1], theirs[1], rtol=1e-5) and np.allclose(ours[3], theirs[3], rtol=1e-4)


FAMILIES = {
    "gpt2": {"model.max_positions": 64},
    "llama": {"model.num_kv_heads": 1},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_resumes_with_the_same_bits(longfold, recipe, tmp_path, family):
    same_rate = {"optimizer.learning_rate": 0.01, "optimizer.final_learning_rate": 0.01, "optimizer.warmup_steps": 0}
    path = recipe({"data.sequence_length": 64, "model.family": family, **FAMILIES[family], **same_rate})
    assert longfold("train", path, "--train.output", tmp_path / "whole").code == 0
    assert longfold("train", path, "--train.steps", 3).code == 0
    assert longfold("train", path, "--resume").code == 0
    whole = losses(tmp_path / "whole")
    assert whole == losses(tmp_path / "run")
    assert model_bytes(tmp_path / "whole", 6) == model_bytes(tmp_path / "run", 6)
    assert whole[-1][1] < whole[0][1], "it learns"


def test_presets_by_name(longfold, recipe):
    message = longfold("train", recipe(), "--model.preset", "genslm-25").one_line_error(2)
    assert "model.preset is 'genslm-25', expected one of genslm-25m, " in message
    short = {"model.family": "gpt2", "model.max_positions": 100}
    message = longfold("train", recipe(short)).one_line_error(2)
    assert message.startswith("expected model.max_positions to be at least 256, the tokens of a window")


def test_windows_without_labels_have_no_loss(longfold, recipe, tmp_path):
    (tmp_path / "n.fa").write_text(">n\n" + "N" * 3000 + "\n")
    assert longfold("prepare", tmp_path / "n.fa", "-o", tmp_path / "n").code == 0
    done = longfold("train", recipe({"data.path": str(tmp_path / "n")}))
    assert done.code == 0, done.stderr
    assert done.stderr.count("  loss -  ") == 6
    assert all(line["loss"] is None and line["held_out_loss"] is None for line in metrics(tmp_path / "run"))
    for name in ("trained on", "held out"):
        assert re.search(rf"^  {name} +-  ", done.stdout, flags=re.MULTILINE), done.stdout
    assert "0.0000" not in done.stdout + done.stderr and "Markov" not in done.stdout


def test_resuming_says_what_it_changes(longfold, recipe, tmp_path):
    assert longfold("train", recipe({"optimizer.final_learning_rate": 0.0})).code == 0
    path = recipe({"optimizer.final_learning_rate": 0.0, "train.steps": 8})
    done = longfold("train", path, "--resume", "--optimizer.learning_rate", "0.002")
    assert done.code == 0
    rates = [line["learning_rate"] for line in metrics(tmp_path / "run")]
    (changed,) = [line for line in done.stdout.splitlines() if line.startswith("changed ")]
    assert "train.steps was 6, now 8; optimizer.learning_rate was 0.001, now 0.002" in changed
    assert f"the learning rate goes from {rates[5]:.4g} in step 6 to {rates[6]:.4g} in step 7" in changed
    assert rates[5] == 0 < rates[6]
    assert "changed" not in longfold("train", path, "--resume", "--optimizer.learning_rate", "0.002").stdout


def test_divergence_names_the_last_good_checkpoint(longfold, recipe, tmp_path):
    path = recipe({"train.steps": 20})
    message = longfold("train", path, "--model.init_std", "1e10").one_line_error(1)
    assert message.startswith("step 1: the loss is nan, the gradient norm nan; there is no good checkpoint; ")
    assert "model.init_std is 1e+10" in message and "learning_rate" not in message
    assert longfold("train", path, "--train.steps", 10).code == 0
    rates = ("--optimizer.learning_rate", "1e30", "--optimizer.warmup_steps", 0)
    message = longfold("train", path, "--resume", *rates).stderr.splitlines()[-1]
    assert f"the last good checkpoint is '{tmp_path / 'run' / 'step-00000010'}'; " in message


def test_skipping_is_said_and_ends_where_no_step_is_good(longfold, recipe, tmp_path):
    lost = {"train.steps": 20, "optimizer.learning_rate": 1e30, "optimizer.warmup_steps": 0}
    done = longfold("train", recipe(lost), "--train.on_nonfinite", "skip")
    assert done.code == 1
    lines = metrics(tmp_path / "run")
    assert [line["skipped"] for line in lines] == [False] + [True] * 10
    assert lines[3]["loss"] is None and lines[3]["grad_norm"] is None
    assert re.search(r"^step 4/20  loss nan, .*skipped \(gradient norm nan\)  ", done.stderr, flags=re.MULTILINE)
    assert "longfold: step 12: the loss is nan, " in done.stderr and "and 10 steps before were skipped; " in done.stderr


def test_schedules(longfold, recipe, tmp_path):
    def rates(name, *arguments):
        path = recipe({"optimizer.learning_rate": 1e-3, "optimizer.final_learning_rate": 1e-4})
        done = longfold("train", path, "--train.output", tmp_path / name, "--optimizer.schedule", name, *arguments)
        assert done.code == 0, done.stderr
        return done, [line["learning_rate"] for line in metrics(tmp_path / name)]

    assert np.allclose(rates("constant")[1], [5e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])
    assert np.allclose(rates("linear")[1], [5e-4, 1e-3, 7.75e-4, 5.5e-4, 3.25e-4, 1e-4])
    tokens = ("--train.tokens", 6 * 512, "--optimizer.warmup_tokens", 2 * 512, "--optimizer.decay_tokens", 2 * 512)
    assert np.allclose(rates("wsd", *tokens)[1], [5e-4, 1e-3, 1e-3, 1e-3, 5.5e-4, 1e-4])
    longer, _ = rates("constant", "--resume", "--train.steps", 7)
    assert "\nchanged      train.steps was 6, now 7; the learning rate stays at 0.001\n" in longer.stdout
    longer, _ = rates("linear", "--resume", "--train.steps", 8)
    assert "the learning rate goes from 0.0001 in step 6 to 0.00025 in step 7\n" in longer.stdout


def test_vocabulary_comes_from_the_tokenizer(longfold, recipe, phage_lambda, tmp_path):
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "nt", "--tokenizer", "nucleotide").code == 0
    assert longfold("train", recipe({"data.path": str(tmp_path / "nt")})).code == 0
    manifest = json.loads((tmp_path / "run" / "step-00000006" / "manifest.json").read_text())
    assert manifest["recipe"]["model"]["vocab_size"] == 9


def test_full_disk_keeps_the_previous_checkpoint(longfold, recipe, tmp_path):
    assert longfold("train", recipe(), "--train.steps", 3).code == 0
    before = model_bytes(tmp_path / "run", 3)
    done = longfold("train", recipe(), "--resume", file_limit=20_000)
    assert done.code == 1
    assert done.stderr.splitlines()[-1].startswith("longfold: cannot write '")
    assert "File too large" in done.stderr.splitlines()[-1] and "terminate" not in done.stderr
    newest = tmp_path / "run" / "step-00000003"
    assert f"; the newest checkpoint is '{newest}'; to go on when that is mended: " in done.stderr.splitlines()[-1]
    assert checkpoints(tmp_path / "run") == ["step-00000003"]
    assert model_bytes(tmp_path / "run", 3) == before
    assert longfold("train", recipe(), "--resume").code == 0


def test_memory_limit_is_one_explained_line(longfold, recipe):
    done = longfold("train", recipe(), "--memory-limit", "1MiB")
    line = done.one_line_error(2)
    assert "more than the limit of 1.00 MiB; most of it are " in line and "longfold plan shows the table" in line, line
    line = longfold("train", recipe(), "--memory-limit", "1MiB", "--force").one_line_error(1)
    assert "of the 1.00 MiB limit are in use; the plan was " in line, line
    assert "no set of techniques makes it fit" in line, line
    assert longfold("train", recipe(), "--memory-limit", "1GiB").code == 0


def test_never_overwrites(longfold, recipe, tmp_path):
    assert longfold("train", recipe(), "--train.steps", 3).code == 0
    before = model_bytes(tmp_path / "run", 3), losses(tmp_path / "run")
    message = longfold("train", recipe()).one_line_error(2)
    assert "--resume" in message and "step-00000003" in message
    assert before == (model_bytes(tmp_path / "run", 3), losses(tmp_path / "run"))


def damage(folder):
    path = folder / "step-00000003" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "model.safetensors': tensor '", "damaged"


def truncate(folder):
    path = folder / "step-00000003" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    return ("optimizer.safetensors", "truncated")


def lose_manifest(folder):
    (folder / "step-00000003" / "manifest.json").unlink()
    return ("manifest.json", "No such file")


def lose_everything(folder):
    shutil.rmtree(folder / "step-00000003")
    return ("cannot resume: no checkpoint in",)


def sealed(manifest):
    """As longfold writes it: the checksum of what comes before is last."""
    manifest.pop("crc32", None)
    text = json.dumps(manifest, indent=1).removesuffix("\n}").encode()
    return text + b',\n "crc32": "%08x"\n}\n' % zlib.crc32(text)


def rewrite(change, *words):
    """Changes the manifest; the message must have these words and the file's name."""

    def harm(folder):
        path = folder / "step-00000003" / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_bytes(sealed(manifest))
        return ("step-00000003/manifest.json': ", *words)

    return harm


MANIFEST_HARMS = {
    "step is negative": rewrite(lambda m: m.update(step=-5), "expected the step of its folder, got -5"),
    "step of another": rewrite(lambda m: m.update(step=1), "expected the step of its folder, got 1"),
    "step is a text": rewrite(lambda m: m.update(step="3"), 'expected the step of its folder, got "3"'),
    "no step": rewrite(lambda m: m.pop("step"), "'step'"),
    "recipe is a list": rewrite(lambda m: m.update(recipe=[1]), "expected 'recipe' to be an object, got [1]"),
    "no recipe": rewrite(lambda m: m.pop("recipe"), "expected 'recipe' to be an object, got null"),
    "section is a number": rewrite(
        lambda m: m["recipe"].update(model=3), "expected 'recipe.model' to be an object, got 3"
    ),
    "tensors is a text": rewrite(lambda m: m.update(tensors="x"), "expected 'tensors' to be an object, got \"x\""),
    "tensor is a number": rewrite(
        lambda m: m["tensors"].update({"embed_out.weight": 7}),
        "expected 'tensors.embed_out.weight' to be an object, got 7",
    ),
    "tokenizer is a number": rewrite(lambda m: m.update(tokenizer=1)),
}


def change_by_hand(folder):
    path = folder / "step-00000003" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"norm_epsilon": 1e-05', '"norm_epsilon": 1e-03'))
    assert path.read_text() != text
    return "step-00000003/manifest.json': damaged: ", "the checksum"


def lose_section(folder):
    rewrite(lambda m: m["recipe"].pop("model"))(folder)
    return ("model.vocab_size was null", "step-00000003")


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        truncate,
        lose_manifest,
        lose_everything,
        lose_section,
        change_by_hand,
        *(pytest.param(harm, id=name) for name, harm in MANIFEST_HARMS.items()),
    ],
)
def test_bad_checkpoints(longfold, recipe, tmp_path, harm):
    assert longfold("train", recipe(), "--train.steps", 3).code == 0
    words = harm(tmp_path / "run")
    message = longfold("train", recipe(), "--resume").one_line_error(2)
    assert all(word in message for word in words), message
    assert len(losses(tmp_path / "run")) == 3, "nothing is lost"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.num_layer": 2}, "unknown key 'model.num_layer', did you mean 'num_layers'?"),
        ({"modle.num_layers": 2}, "unknown key 'modle', did you mean 'model'?"),
        ({"model.num_layers": "two"}, 'expected model.num_layers to be a whole number, got "two"'),
        ({"train.steps": 1.5}, "expected train.steps to be a whole number, got 1.5"),
        ({"model.num_layers": [2]}, "got a list or a date"),
        ({"model.num_heads": 3}, "model.hidden_size 32 is not divisible by model.num_heads 3"),
        ({"model.rotary_pct": 0.45}, "model.rotary_pct 0.45"),
        ({"model.vocab_size": 71}, "expected model.vocab_size to be 69"),
        ({"data.sequence_length": 20_000}, "sequence_length to be at most 16167"),
        ({"data.held_out": 1.5}, "held_out"),
        ({"data.path": "/nowhere/data"}, "/nowhere/data"),
        ({"train.validation": "/nowhere/val"}, "/nowhere/val"),
        ({"train.output": "/proc/run"}, "cannot create folder '/proc/run'"),
        ({"train.output": ""}, "train.output"),
        ({"compute.device": "tpu"}, 'expected compute.device to be cpu, cuda or auto, got "tpu"'),
        ({"compute.attention": "flash"}, "expected compute.attention to be auto or longfold on the CPU"),
        ({"compute.memory_limit": "lots"}, "lots"),
        ({"optimizer.beta1": 1.0}, "optimizer.beta1"),
        ({"optimizer.warmup_steps": 7}, "optimizer.warmup_steps to be at most train.steps, which is 6, got 7"),
    ],
)
def test_bad_recipes(longfold, recipe, tmp_path, changes, words):
    assert words in longfold("train", recipe(changes)).one_line_error(2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train.step", "3"], "unknown option '--train.step', did you mean 'train.steps'?"),
        (["--train.step=3"], "unknown option '--train.step', did you mean 'train.steps'?"),
        (["--train.steps", "few"], "expected train.steps to be a whole number, got 'few'"),
        (["--model.num_heads", "5"], "hidden_size"),
        (["--memory-limit", "2 elephants"], "2 elephants"),
        (["--elephants"], "unknown option '--elephants'"),
        (["more"], "unexpected argument 'more'"),
        (["--resume"], "cannot resume: no checkpoint in"),
    ],
)
def test_bad_options(longfold, recipe, tmp_path, arguments, words):
    assert words in longfold("train", recipe(), *arguments).one_line_error(2)
    assert not (tmp_path / "run").exists()


def test_the_last_of_a_repeated_option_counts(longfold, recipe, tmp_path):
    assert longfold("train", recipe(), "--train.steps", 3, "--train.steps=4").code == 0
    assert checkpoints(tmp_path / "run") == ["step-00000004"]
    limits = ("--memory-limit", "1GiB", "--compute.memory_limit", "1MiB")
    assert "1.00 MiB" in longfold("train", recipe(), "--train.output", tmp_path / "b", *limits).one_line_error(2)
    assert longfold("train", recipe(), "--train.output", tmp_path / "c", *limits, "--memory-limit=2GiB").code == 0


def test_bad_toml_names_the_line(longfold, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("[model]\nnum_layers = = 2\n")
    assert f"{path}: line 2: " in longfold("train", path).one_line_error(2)
    assert "nowhere.toml" in longfold("train", tmp_path / "nowhere.toml").one_line_error(2)


def test_model_of_one_tokenizer_refuses_data_of_another(longfold, recipe, phage_lambda, tmp_path):
    assert longfold("train", recipe(), "--train.steps", 3).code == 0
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "nt", "--tokenizer", "nucleotide").code == 0
    other = {"data.path": str(tmp_path / "nt"), "model.vocab_size": 9}
    message = longfold("train", recipe(other), "--resume").one_line_error(2)
    assert "was trained with tokenizer genslm69" in message and "nucleotide" in message


def test_data_with_a_changed_token_is_refused(longfold, recipe, data, tmp_path):
    for suffix in (".bin", ".idx", ".json"):
        shutil.copy(f"{data}{suffix}", tmp_path / f"copy{suffix}")
    changes = {"data.path": str(tmp_path / "copy")}
    assert longfold("train", recipe(changes), "--train.steps", 2).code == 0
    tokens = bytearray((tmp_path / "copy.bin").read_bytes())
    tokens[1000] ^= 1
    (tmp_path / "copy.bin").write_bytes(tokens)
    for arguments in (["--resume"], ["--train.output", tmp_path / "other"]):
        assert f"{tmp_path / 'copy.bin'}" in longfold("train", recipe(changes), *arguments).one_line_error(2)
    assert not (tmp_path / "other").exists() and len(losses(tmp_path / "run")) == 2


def test_help_lists_every_option(longfold):
    done = longfold("train", "--help")
    assert done.code == 0
    for name in (
        "model.num_layers 8",
        "data.held_out 0.0",
        "optimizer.beta2 0.95",
        "train.steps 100",
        "compute.device",
    ):
        assert f"--{name}" in done.stdout
