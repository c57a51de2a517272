"""Training runs, as the tests start and read them."""

import json
import os
import pathlib
import signal
import subprocess
import time

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
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup would hand it down ignored
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
