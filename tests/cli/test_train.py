"""longfold train, from the outside: repeatable, resumable, interruptible, and plain about what is wrong."""

import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

SMALL = {
    "model.num_layers": 1,
    "model.hidden_size": 32,
    "model.num_heads": 2,
    "model.ffn_size": 32,
    "data.sequence_length": 256,
    "data.batch_size": 2,
    "data.held_out": 0.1,
    "optimizer.warmup_steps": 2,
    "train.steps": 6,
    "compute.threads": 1,
}


@pytest.fixture(scope="session")
def data(program, tmp_path_factory):
    """Phage lambda as codons."""
    prefix = tmp_path_factory.mktemp("data") / "lambda"
    genome = pathlib.Path(__file__).parents[2] / "data" / "phage-lambda.fa.gz"
    subprocess.run([program, "prepare", genome, "--output", prefix], check=True, capture_output=True)
    return prefix


@pytest.fixture
def recipe(data, tmp_path):
    """recipe({"train.steps": 3}) writes a recipe that differs from SMALL in that."""

    def write(changes=None):
        sections = {}
        values = {**SMALL, "data.path": str(data), "train.output": str(tmp_path / "run"), **(changes or {})}
        for name, value in values.items():
            section, key = name.split(".")
            sections.setdefault(section, []).append(f"{key} = {json.dumps(value)}")
        path = tmp_path / "recipe.toml"
        path.write_text("\n".join(f"[{name}]\n" + "\n".join(lines) for name, lines in sections.items()) + "\n")
        return path

    return write


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return [(line["step"], line["loss"], line["held_out_loss"], line["grad_norm"]) for line in metrics(folder)]


def checkpoints(folder):
    """The complete ones."""
    return sorted(path.name for path in folder.glob("step-*") if path.name[5:].isdigit())


def model_bytes(folder, step):
    return [
        (folder / f"step-{step:08d}" / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")
    ]


def start(program, *arguments):
    return subprocess.Popen(
        [str(program), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(process, step):
    for line in process.stderr:
        if line.startswith(f"step {step}/"):
            return
    raise AssertionError(f"the program ended before step {step}")


def wait_for(words, process):
    assert any(words in line for line in process.stderr), f"the program ended before it said '{words}'"


def wait_until_it_computes(process):
    """Until it has used processor time after the lines that come before the first step."""

    def seconds():
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    assert any(line.startswith("step ") for line in process.stdout), "the program ended before its first step"
    begin = seconds()
    while process.poll() is None and seconds() < begin + 0.3:
        time.sleep(0.01)


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


def test_interrupted_and_resumed_gives_the_same_bits(longfold, program, recipe, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # More steps than it can do before the signal, at a learning rate that does not depend on how many.
    path = recipe({"train.steps": 1_000_000, "optimizer.learning_rate": 1e-3, "optimizer.final_learning_rate": 1e-3})
    process = start(program, "train", path, "--train.output", parts)
    wait_for_step(process, 3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert f"to go on: {program} train {path} --resume --train.output {parts}\n" in stdout
    done = losses(parts)
    assert checkpoints(parts) == [f"step-{len(done):08d}"] and len(done) >= 3
    steps = len(done) + 20
    assert longfold("train", path, "--train.output", whole, "--train.steps", steps).code == 0
    assert longfold("train", path, "--train.output", parts, "--train.steps", steps, "--resume").code == 0
    assert losses(parts) == losses(whole)
    assert model_bytes(parts, steps) == model_bytes(whole, steps)


def test_command_to_go_on_can_be_pasted(program, recipe, tmp_path):
    output = tmp_path / "Lambda's run"
    process = start(program, "train", recipe({"train.steps": 1_000_000}), "--train.output", output)
    wait_for_step(process, 1)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    command = stdout.partition("to go on: ")[2].strip()
    done = len(losses(output))
    again = subprocess.run(f"{command} --train.steps {done + 1}", shell=True, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(losses(output)) == done + 1


def test_second_interrupt_ends_at_once(program, recipe, tmp_path):
    # Both signals come within the first step, which is long.
    process = start(program, "train", recipe({"data.sequence_length": 0, "data.batch_size": 1, "model.num_layers": 24}))
    wait_until_it_computes(process)
    process.send_signal(signal.SIGINT)
    wait_for("finishing this step", process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert checkpoints(tmp_path / "run") == []


# One step is long enough for two signals to come within it.
LONG_STEPS = {"data.sequence_length": 0, "data.batch_size": 1, "model.num_layers": 4, "optimizer.warmup_steps": 0}
# Thousands of short windows are held out, so the evaluation is long and the steps are not.
LONG_EVALUATION = {"data.sequence_length": 2, "data.held_out": 0.9, "model.num_layers": 24}

# What schedulers send before they kill, and a terminal that goes away.
STOPS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU]


@pytest.mark.parametrize("number", STOPS)
def test_every_signal_that_asks_to_stop_saves(program, recipe, tmp_path, number):
    process = start(program, "train", recipe({"train.steps": 1_000_000}))
    wait_for_step(process, 2)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "finishing this step, then saving" in stderr
    done = len(losses(tmp_path / "run"))
    assert checkpoints(tmp_path / "run") == [f"step-{done:08d}"]
    assert f"stopped after step {done} of 1000000; to go on: " in stdout
    assert not (tmp_path / "run" / "lock").exists()


def test_nohup_keeps_a_run_from_hanging_up(program, recipe, tmp_path):
    arguments = ["nohup", str(program), "train", str(recipe({"train.steps": 200}))]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_step(process, 1)
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0 and "finishing this step" not in stderr
    assert len(losses(tmp_path / "run")) == 200


def test_a_reader_that_is_gone_does_not_end_a_run(program, recipe, tmp_path):
    process = start(program, "train", recipe({"train.steps": 300}))
    wait_for_step(process, 1)
    process.stderr.close()
    process.stdout.read()
    assert process.wait(timeout=120) == 0
    assert checkpoints(tmp_path / "run") == ["step-00000300"]


def test_second_signal_names_the_checkpoint(longfold, program, recipe, tmp_path):
    long = recipe(LONG_STEPS)
    assert longfold("train", long, "--train.steps", 1).code == 0
    process = start(program, "train", long, "--train.steps", 2, "--resume")
    wait_until_it_computes(process)
    process.send_signal(signal.SIGTERM)
    wait_for("finishing this step", process)
    process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGUSR1
    (last,) = [line for line in stderr.splitlines() if line.startswith("longfold: ")]
    saved = tmp_path / "run" / "step-00000001"
    assert f"the newest checkpoint is '{saved}'; to go on: {program} train {long} --resume --train.steps 2" in last
    assert longfold("train", long, "--train.steps", 1, "--resume").code == 0, "the lock went with the process"


def test_signal_in_the_evaluation_ends_it(longfold, program, recipe, tmp_path):
    process = start(program, "train", recipe(LONG_EVALUATION))
    line = next(line for line in process.stderr if line.startswith("held-out loss: "))
    assert re.match(r"held-out loss: 7,275 windows, about \d+:\d\d", line), line
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0
    saved = tmp_path / "run" / "step-00000006"
    (last,) = [line for line in stderr.splitlines() if line.startswith("longfold: ")]
    assert last.startswith(
        f"longfold: stopped within the evaluation; the newest checkpoint is '{saved}'; to evaluate: "
    )
    assert f"saved        {saved}\n" in stdout and "loss per token" not in stdout
    command = last.partition("; to evaluate: ")[2].split()
    assert command == [str(program), "train", str(tmp_path / "recipe.toml"), "--resume"]
    assert not (tmp_path / "run" / "lock").exists(), "all is saved: another run may begin while one evaluates"


def test_signal_in_the_last_step_leaves_the_evaluation_out(program, recipe):
    process = start(program, "train", recipe({**LONG_STEPS, "train.steps": 1}))
    wait_until_it_computes(process)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0 and "finishing this step" in stderr
    assert "stopped before the evaluation; to evaluate: " in stdout and "loss per token" not in stdout


def test_two_runs_never_share_a_folder(longfold, program, recipe, tmp_path):
    path = recipe({"train.steps": 1_000_000, "train.checkpoint_every": 1})
    first = start(program, "train", path)
    wait_for_step(first, 2)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for arguments in (["--resume"], ["--resume", "--train.output", tmp_path / "link"]):
        message = longfold("train", path, *arguments).one_line_error(2)
        assert f"is in use by process {first.pid} on {os.uname().nodename}: " in message
    first.send_signal(signal.SIGTERM)
    _, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    done = len(losses(tmp_path / "run"))
    assert checkpoints(tmp_path / "run") == [f"step-{step:08d}" for step in range(1, done + 1)]
    assert longfold("train", path, "--resume", "--train.steps", done + 1).code == 0


def test_a_killed_run_frees_its_folder(longfold, program, recipe, tmp_path):
    path = recipe({"train.steps": 1_000_000, "train.checkpoint_every": 1})
    first = start(program, "train", path)
    wait_for_step(first, 2)
    first.kill()
    first.communicate()
    assert (tmp_path / "run" / "lock").read_text().startswith(f"process {first.pid} on ")
    steps = int(checkpoints(tmp_path / "run")[-1][5:]) + 1
    done = longfold("train", path, "--resume", "--train.steps", steps)
    assert done.code == 0 and "note:" not in done.stderr
    (tmp_path / "run" / "lock").write_text("process 7 on another-machine\n")
    done = longfold("train", path, "--resume", "--train.steps", steps + 1)
    assert (
        done.code == 0 and "lock' was left by process 7 on another-machine, which did not end in order" in done.stderr
    )


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


def test_vocabulary_comes_from_the_tokenizer(longfold, recipe, phage_lambda, tmp_path):
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "nt", "--tokenizer", "nucleotide").code == 0
    assert longfold("train", recipe({"data.path": str(tmp_path / "nt")})).code == 0
    manifest = json.loads((tmp_path / "run" / "step-00000006" / "manifest.json").read_text())
    assert manifest["recipe"]["model"]["vocab_size"] == 9


def test_kill_leaves_whole_checkpoints(longfold, program, recipe, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    path = recipe({"train.steps": 40, "train.checkpoint_every": 1})
    assert longfold("train", path, "--train.output", whole).code == 0
    resume = []
    for step in (4, 9, 15):
        process = start(program, "train", path, "--train.output", killed, *resume)
        wait_for_step(process, step)
        time.sleep(0.003 * step)  # somewhere in a step or in a checkpoint
        process.kill()
        process.communicate()
        resume = ["--resume"]
    (killed / "step-00000039.part-1").mkdir()  # what a kill in the middle of a checkpoint leaves
    (killed / "step-00000039.part-1" / "model.safetensors").write_bytes(b"half")
    assert longfold("train", path, "--train.output", killed, *resume).code == 0
    assert losses(killed) == losses(whole)
    assert model_bytes(killed, 40) == model_bytes(whole, 40)
    assert checkpoints(killed) == [f"step-{step:08d}" for step in range(1, 41)]


def test_full_disk_keeps_the_previous_checkpoint(longfold, recipe, tmp_path):
    assert longfold("train", recipe(), "--train.steps", 3).code == 0
    before = model_bytes(tmp_path / "run", 3)
    done = longfold("train", recipe(), "--resume", file_limit=20_000)
    assert done.code == 1
    assert done.stderr.splitlines()[-1].startswith("longfold: cannot write '")
    assert "File too large" in done.stderr.splitlines()[-1] and "terminate" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith(f"the newest checkpoint is '{tmp_path / 'run' / 'step-00000003'}'")
    assert checkpoints(tmp_path / "run") == ["step-00000003"]
    assert model_bytes(tmp_path / "run", 3) == before
    assert longfold("train", recipe(), "--resume").code == 0


def test_memory_limit_is_one_explained_line(longfold, recipe):
    done = longfold("train", recipe(), "--memory-limit", "1MiB")
    assert "1.00 MiB" in done.one_line_error(1)
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


def rewrite(change, *words):
    """Changes the manifest; the message must have these words and the file's name."""

    def harm(folder):
        path = folder / "step-00000003" / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))
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
        ({"train.output": "/proc/run"}, "cannot create folder '/proc/run'"),
        ({"train.output": ""}, "train.output"),
        ({"compute.device": "cuda"}, "this build has no CUDA engine"),
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
    assert "1.00 MiB" in longfold("train", recipe(), "--train.output", tmp_path / "b", *limits).one_line_error(1)
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
