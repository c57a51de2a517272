"""longfold train, killed, without room and without rights: what was saved stays whole, and a run goes on as if nothing
had happened."""

import os
import random
import shutil
import subprocess
import time

import pytest
from runs import checkpoints, losses, metrics, model_bytes, start, wait_for_step

SAME_RATE = {"optimizer.learning_rate": 1e-3, "optimizer.final_learning_rate": 1e-3}


def test_the_newest_every_so_many_and_the_best_stay(longfold, recipe, data, tmp_path):
    keep = {"train.steps": 12, "train.checkpoint_every": 1, "train.keep_last": 2, "train.keep_every": 5}
    assert longfold("train", recipe(keep)).code == 0
    assert checkpoints(tmp_path / "run") == [f"step-{step:08d}" for step in (5, 10, 11, 12)]
    look = ("--train.validation", data, "--train.validate_every", 3, "--train.validate_windows", 4)
    best = tmp_path / "best"
    worse = ("--optimizer.learning_rate", 3, "--optimizer.warmup_steps", 4, "--train.keep_every", 0)
    done = longfold("train", recipe(keep), *look, *worse, "--train.output", best)
    assert done.code == 0, done.stderr
    shown = {line["step"]: line["validation_loss"] for line in metrics(best) if line["validation_loss"] is not None}
    assert list(shown) == [3, 6, 9, 12]
    least = min(shown, key=shown.get)
    assert least == 3, "else this shows nothing"
    assert checkpoints(best) == [f"step-{step:08d}" for step in (3, 11, 12)]
    assert f"  validation             {shown[3]:7.4f}   at best, after step 3\n" in done.stdout
    assert f", validation {shown[9]:.4f}  " in done.stderr and "validation: 4 windows\n" in done.stderr


def test_resume_auto_begins_or_goes_on(longfold, recipe, tmp_path):
    path = recipe(SAME_RATE)
    assert longfold("train", path, "--train.output", tmp_path / "whole").code == 0
    done = longfold("train", "--resume", "auto", path, "--train.steps", 3)
    assert done.code == 0 and "resumed" not in done.stdout
    for arguments in (["--resume", path], [path, "--resume"]):  # a flag as well
        done = longfold("train", *arguments, "--train.steps", 4)
        assert done.code == 0 and "resumed      after step " in done.stdout
    assert "is there already" in longfold("train", path).one_line_error(2)
    assert longfold("train", path, "--resume=auto").code == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert model_bytes(tmp_path / "run", 6) == model_bytes(tmp_path / "whole", 6)
    message = longfold("train", path, "--resume", "automatic").one_line_error(2)
    assert message == "unexpected argument 'automatic'"
    assert "expected a recipe" in longfold("train", "--resume", "auto").one_line_error(2)


# Everything that is written while steps go on.
BUSY = {
    **SAME_RATE,
    "data.sequence_length": 128,
    "train.steps": 60,
    "train.checkpoint_every": 1,
    "train.keep_last": 2,
    "train.keep_every": 20,
    "train.validate_every": 7,
    "train.validate_windows": 2,
    "train.tensorboard": True,
}


def lines_without_time(folder):
    timed = ("tokens_per_second", "seconds_waited", "memory_live", "memory_peak")
    return [{key: value for key, value in line.items() if key not in timed} for line in metrics(folder)]


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.nightly)])
def test_killed_at_any_moment_it_resumes_with_the_same_bits(longfold, program, recipe, data, tmp_path, kills):
    path = recipe({**BUSY, "train.validation": str(data), "train.steps": 3 * kills})
    steps = 3 * kills
    assert longfold("train", path, "--train.output", tmp_path / "whole").code == 0
    moments = random.Random(7)
    for _ in range(kills):
        process = start(program, "train", path, "--resume", "auto")
        if moments.random() < 0.2:
            time.sleep(moments.uniform(0, 0.5))  # while it starts
        else:
            step = int((["step-0"] + checkpoints(tmp_path / "run"))[-1][5:]) + 1
            if step < steps:
                wait_for_step(process, step)
            time.sleep(moments.uniform(0, 0.02))  # in a step, a look, a save, a removal
        process.kill()
        process.communicate()
    done = longfold("train", path, "--resume", "auto")
    assert done.code == 0, done.stderr
    assert model_bytes(tmp_path / "run", steps) == model_bytes(tmp_path / "whole", steps)
    assert lines_without_time(tmp_path / "run") == lines_without_time(tmp_path / "whole")
    assert checkpoints(tmp_path / "run") == checkpoints(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 KiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_keeps_the_last_checkpoint_and_says_what_to_do(longfold, program, recipe, small_disk):
    path = recipe(
        {**SAME_RATE, "train.steps": 40, "train.checkpoint_every": 1, "train.output": str(small_disk / "run")}
    )
    done = longfold("train", path)
    assert done.code == 1
    (newest, *_) = reversed(checkpoints(small_disk / "run"))
    last = done.stderr.splitlines()[-1]
    assert "No space left on device; the newest checkpoint is '" in last
    assert last.endswith(f"{newest}'; to go on when that is mended: {program} train {path} --resume")
    assert not list((small_disk / "run").glob("*.part-*")), "nothing of the one that did not fit is left"
    for name in checkpoints(small_disk / "run")[:-1]:
        shutil.rmtree(small_disk / "run" / name)  # room
    done = longfold("train", path, "--resume", "--train.steps", int(newest[5:]) + 1)
    assert done.code == 0, done.stderr


def test_a_read_only_folder_is_one_line(longfold, recipe, small_disk):
    run = small_disk / "run"
    path = recipe({**SAME_RATE, "train.output": str(run)})
    assert longfold("train", path, "--train.steps", 2).code == 0
    before = model_bytes(run, 2)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    message = longfold("train", path, "--resume").one_line_error(2)
    assert message == f"cannot write '{run / 'lock'}': Read-only file system"
    assert model_bytes(run, 2) == before
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert longfold("train", path, "--resume").code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_one_line(longfold, recipe, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    assert "Permission denied" in longfold("train", recipe()).one_line_error(2)
