"""Runs of several processes: the same losses whatever they share, and an end when one of them is missing."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time

import pytest
from runs import checkpoints, metrics

ROOT = pathlib.Path(__file__).resolve().parents[2]
MPIRUN = ROOT / "tools" / "mpirun.sh"
pytestmark = pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")

# Not a multiple of what shares it, so that there is padding.
SHARED = {"data.sequence_length": 249, "model.num_heads": 4, "train.checkpoint_every": 0}
EVERYTHING = ["--memory.checkpoint", "selective", "--memory.offload", "file", "--memory.tiled_mlp", "true"]
EVERYTHING += ["--memory.tiled_loss", "true", "--memory.tile_tokens", 50, "--memory.offload_optimizer", "file"]
LAYOUTS = {
    "data": (2, []),
    "ring": (2, ["--parallel.ring", 2]),
    "ring_of_3": (3, ["--parallel.ring", 3]),
    "ulysses": (4, ["--parallel.ulysses", 4]),
    "all_three": (8, ["--parallel.ring", 2, "--parallel.ulysses", 2]),
    "with_techniques": (4, ["--parallel.ring", 2, "--parallel.ulysses", 2, *EVERYTHING]),
    "packed": (4, ["--parallel.ring", 2, "--parallel.ulysses", 2, "--data.pack", "true"]),
}


@pytest.fixture
def launch(program):
    """launch(4, "train", ...) -> the finished mpirun; started alone with wait=False."""

    def run(processes, *arguments, wait=True):
        command = [MPIRUN, str(processes), program, *arguments]
        started = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if not wait:
            return started
        started.out, started.err = started.communicate(timeout=200)
        return started

    return run


def distance(one, other):
    """The largest, relative, of losses and norms; a step may have no held-out labels."""
    pairs = [
        (a[key], b[key])
        for a, b in zip(metrics(one), metrics(other), strict=True)
        for key in ("loss", "held_out_loss", "grad_norm")
    ]
    assert all((a is None) == (b is None) for a, b in pairs)
    return max(abs(a / b - 1) for a, b in pairs if a is not None)


def evaluation(out):
    """Losses at the end: of the last step's windows, and of what was held out."""
    return [float(x) for x in re.findall(r"^  (?:trained on|held out) +([0-9.]+) ", out, re.MULTILINE)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_losses_are_those_of_one_process(longfold, launch, recipe, tmp_path, name):
    processes, arguments = LAYOUTS[name]
    packed = ["--data.pack", "true"] if name == "packed" else []
    path = recipe(SHARED)
    alone = longfold("train", path, "--train.output", tmp_path / "one", *packed)
    assert alone.code == 0
    done = launch(processes, "train", path, "--train.output", tmp_path / "shared", *arguments)
    assert done.returncode == 0, done.err
    assert f"processes    {processes}: data " in done.out
    assert done.out.count("processes    ") == 1 and done.err.count("step 1/6") == 1, done.out + done.err
    assert distance(tmp_path / "one", tmp_path / "shared") < 1e-5
    assert evaluation(done.out) == pytest.approx(evaluation(alone.stdout), abs=2e-4)
    assert len(evaluation(done.out)) == 2
    again = launch(processes, "train", path, "--train.output", tmp_path / "again", *arguments)
    assert again.returncode == 0
    assert metrics(tmp_path / "again")[-1]["loss"] == metrics(tmp_path / "shared")[-1]["loss"]


def test_any_layout_goes_on_from_any(longfold, launch, recipe, tmp_path):
    path = recipe(SHARED)
    assert longfold("train", path, "--train.output", tmp_path / "one").code == 0
    run = ["train", path, "--train.output", tmp_path / "many"]
    assert launch(4, *run, "--train.steps", 2, "--parallel.ring", 2).returncode == 0
    assert longfold(*run, "--train.steps", 4, "--resume").code == 0
    done = launch(2, *run, "--resume", "--parallel.ulysses", 2)
    assert done.returncode == 0, done.err
    # The learning rate fell faster where fewer steps were to come: what is compared is the last run's own.
    same = ["--train.output", tmp_path / "same"]
    shutil.copytree(tmp_path / "many", tmp_path / "same")
    shutil.rmtree(tmp_path / "same" / "step-00000006")
    assert longfold("train", path, *same, "--resume").code == 0
    for a, b in zip(metrics(tmp_path / "many")[-2:], metrics(tmp_path / "same")[-2:], strict=True):
        assert a["step"] == b["step"] and abs(a["loss"] / b["loss"] - 1) < 1e-6


PAGE = ROOT / "docs" / "parallelism.md"
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]


def test_commands_of_the_page_run_one_after_the_other(longfold, launch, recipe):
    path = recipe(SHARED)
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        words = shlex.split(command.replace("recipe.toml", str(path)))
        if words[0] == "mpirun":
            assert words[1] == "-n" and words[3] == "longfold"
            steps = ["--train.steps", 8] if "--resume" in words else []
            done = launch(int(words[2]), *words[4:], *steps)
            assert done.returncode == 0, done.err
        else:
            done = longfold(*words[1:])
            assert done.code == 0, done.stderr


@pytest.mark.parametrize(
    ("processes", "arguments", "words"),
    [
        (3, [], "expected data.batch_size to be a multiple of 3, which share the batch of 3 processes, got 2"),
        (2, ["--parallel.ring", 3], "expected parallel.ring x ulysses x tensor, which is 3, to divide"),
        (2, ["--parallel.processes", 4], "parallel.processes is 4, but there is 2 processes"),
        (3, ["--parallel.ulysses", 3], "expected model.num_heads, which is 4, to be a multiple of parallel.ulysses"),
        (2, ["--parallel.ring", 2, "--memory.chunked_attention", "device"], "memory.chunked_attention to be none"),
        (2, ["--parallel.ring", 2, "--memory.attention", "dense"], "memory.attention to be flash"),
        (2, ["--compute.device", "cuda"], "they are for CPUs alone yet"),
        (2, ["--memory.early_updates", "true", "--optimizer.clip_norm", 0], "memory.early_updates to be false"),
    ],
)
def test_what_cannot_be_is_said_once(launch, recipe, processes, arguments, words):
    done = launch(processes, "train", recipe(SHARED), *arguments)
    assert done.returncode == 2
    assert done.err.count("longfold: ") == 1 and words in done.err, done.err


def children(launched):
    """The processes that mpirun started, once they take steps."""
    for line in launched.stderr:
        if line.startswith("step 2/"):
            break
    listed = subprocess.run(["pgrep", "-P", str(launched.pid)], capture_output=True, text=True, check=True)
    return [int(word) for word in listed.stdout.split()]


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_a_process_that_is_missing_ends_the_run(launch, recipe, tmp_path, how):
    path = recipe(SHARED | {"train.steps": 100000, "train.checkpoint_every": 1, "train.keep_last": 2})
    launched = launch(2, "train", path, "--parallel.ring", 2, "--parallel.timeout", 2, wait=False)
    victim = children(launched)[1]
    os.kill(victim, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    begin = time.monotonic()
    _, err = launched.communicate(timeout=100)
    assert launched.returncode != 0
    assert time.monotonic() - begin < 60
    if how == "hung":
        assert "longfold: [mpi] " in err and "nothing came for 0:02 from process 1 (parallel.timeout)" in err, err
    assert checkpoints(tmp_path / "run")


def test_a_signal_to_one_process_stops_all_after_a_step(launch, recipe, tmp_path):
    path = recipe(SHARED | {"train.steps": 100000})
    launched = launch(2, "train", path, "--parallel.ring", 2, wait=False)
    os.kill(children(launched)[1], signal.SIGTERM)
    out, err = launched.communicate(timeout=100)
    assert launched.returncode == 0, err
    assert "stopped after step" in out
    assert len(checkpoints(tmp_path / "run")) == 1


@pytest.mark.parametrize("name", ["ring", "ulysses", "all_three", "data"])
def test_what_is_sent_is_what_was_planned(longfold, launch, recipe, tmp_path, name):
    processes, options = LAYOUTS[name]
    path = recipe(SHARED)
    done = launch(processes, "train", path, "--train.steps", 2, *options)
    assert done.returncode == 0, done.err
    assert re.search(r"\nexchanged    .* a step from the first process, .* planned; \d+ % of the time waited", done.out)
    plan = longfold("plan", path, "--json", "--parallel.processes", processes, *options)
    planned = json.loads(plan.stdout)["sent_bytes"]
    for line in metrics(tmp_path / "run"):
        assert line["bytes_sent"] == pytest.approx(planned, rel=0.002, abs=500)  # and some losses
        assert line["seconds_exchanging"] > 0


GRIDS = ["--parallel.ulysses 8", "--parallel.ring 8", "--parallel.ring 4 --parallel.ulysses 2 --parallel.processes 16"]
GRIDS += ["--parallel.ulysses 4 --memory.checkpoint full --compute.dtype bf16"]
GRIDS += ["--parallel.ring 2 --memory.checkpoint full --compute.dtype bf16"]
GRIDS += ["--parallel.ulysses 4 --parallel.ring 2 --model.family llama --model.num_heads 8 --model.num_kv_heads 2"]


@pytest.mark.parametrize("grid", GRIDS)
def test_bytes_on_the_wire_are_those_of_the_formulas(longfold, grid):
    done = longfold("bench", "comm", "--tokens", 8192, "--json", *grid.split())
    assert done.code == 0, done.stderr
    line = json.loads(done.stdout)
    for axis in ("ulysses", "ring"):
        assert (axis in line) == (f"--parallel.{axis}" in grid)
    for axis in line.keys() - {"sent_bytes"}:
        assert line[axis]["counted"] == pytest.approx(line[axis]["formula"], rel=0.05) and line[axis]["counted"] > 0
