"""longfold train, stopped from the outside: by signals, kills, other runs. What was done is kept, and it says where."""

import os
import pty
import re
import signal
import subprocess
import time

import pytest
from runs import checkpoints, losses, model_bytes, start, wait_for, wait_for_step, wait_until_it_computes


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


def test_signal_before_the_first_step_ends_at_once(longfold, program, recipe, tmp_path):
    lock = tmp_path / "large" / "lock"
    large = {"model.num_layers": 8, "model.hidden_size": 1024}  # takes a while to build
    process = start(program, "train", recipe({**large, "train.output": str(lock.parent)}))
    while process.poll() is None and not lock.exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0 and stdout == ""
    assert "longfold: stopped before the first step; there is no checkpoint yet\n" in stderr
    assert longfold("train", recipe({"train.output": str(lock.parent)})).code == 0, "the folder is free"


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


def test_what_takes_long_is_said(program, recipe):
    process = start(program, "train", recipe({**LONG_STEPS, "model.num_layers": 24}))
    wait_for("step 1 under way, 0:01", process)
    process.kill()
    process.communicate()


def test_progress_is_redrawn_on_a_terminal(program, recipe):
    ours, theirs = pty.openpty()
    with subprocess.Popen([program, "train", recipe()], stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # so ends a terminal that the program has left
            pass
        os.close(ours)
        assert process.wait() == 0
    lines = shown.decode().split("\r\x1b[K")
    for step in range(1, 7):
        assert sum(line.startswith(f"step {step}/6  loss ") for line in lines) == 1
    for window in range(1, 9):
        assert sum(line.startswith(f"held-out loss: window {window}/8  ") for line in lines) == 1
