"""One run: worker processes until every shape is measured, and what they found as one value that JSON can hold.

A contender that breaks the device or ends its process is left out of that shape, with the reason, and the shape begins
anew: none of them costs the others their results. One that says nothing for too long (it may be compiling for minutes) is
left out of all shapes to come.
"""

import dataclasses
import datetime
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from .contenders import Contender
from .shapes import Shape

FORMAT = 1
STARTING = 120  # seconds for importing torch and finding the GPU, beside the patience
BENCH = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Options:
    shapes: list[Shape]
    contenders: list[Contender]
    names: list[str]  # of contenders, as a worker is told
    device: str
    dtype: str
    passes: list[str]
    seconds: float  # of timing, for each shape
    patience: float  # seconds without a word
    command: str


class WorkerFailed(Exception):
    """No contender is to blame."""


def new_run(options: Options) -> dict:
    return {
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "command": options.command,
        "dry": options.device == "cpu",
        "dtype": options.dtype,
        "passes": options.passes,
        "machine": {},
        "versions": {},
        "missing": {c.name: c.missing() for c in options.contenders if c.missing()},
        "shapes": [dataclasses.asdict(shape) for shape in options.shapes],
        "results": [],
    }


def start(options: Options, run: dict, shapes: list[Shape], excluded: dict[str, list[str]]):
    """A worker for these shapes: the process, and a queue of its events that ends with None."""
    read_end, write_end = os.pipe()
    task = {
        "shapes": [dataclasses.asdict(shape) for shape in shapes],
        "contenders": [name for name in options.names if name not in run["missing"]],
        "excluded": excluded,
        "device": options.device,
        "dtype": options.dtype,
        "passes": options.passes,
        "seconds": options.seconds,
        "events": write_end,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "comparison.worker", json.dumps(task)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])])},
        pass_fds=[write_end],
        stdout=sys.stderr,  # contenders print what they like; standard output is the page
        start_new_session=True,  # so that its compilers end with it
    )
    os.close(write_end)
    events: queue.Queue = queue.Queue()

    def read() -> None:
        with os.fdopen(read_end) as lines:
            for line in lines:
                events.put(json.loads(line))
        events.put(None)

    threading.Thread(target=read, daemon=True).start()
    return process, events


def stop(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # ended by itself
    process.wait()


def failure(task: dict, passes: list[str], words: str) -> dict:
    """The result of a contender that did not come back."""
    failed = dict.fromkeys(passes, f"{words} ({task['what']})")
    return {"shape": task["shape"], "contender": task["contender"], "failed": failed}


def attempt(
    options: Options, run: dict, shapes: list[Shape], excluded: dict, keep: Callable, log: Callable
) -> set[str]:
    """Names of the shapes that one worker finished. A contender that ended it is excluded from the shape at hand."""
    process, events = start(options, run, shapes, excluded)
    task, pending, done = {"shape": "", "contender": "", "what": "starting"}, [], set()
    lost, silent = "", False  # why the worker is no more
    try:
        while True:
            try:
                patience = options.patience + (0 if task["shape"] else STARTING)
                event = events.get(timeout=patience)
            except queue.Empty:
                lost, silent = f"said nothing for {patience:g} s", True
                break
            if event is None:
                code = process.wait()
                if code != 0 or len(done) < len(shapes):
                    lost = f"ended its process with {'signal' if code < 0 else 'status'} {abs(code)}"
                break
            if "task" in event:
                task = event["task"]
            elif "unusable" in event:
                raise WorkerFailed(event["unusable"])
            elif "machine" in event:
                run["machine"], run["versions"] = event["machine"], event["versions"]
            elif "result" in event:
                pending.append(event["result"])
            elif "broken" in event:
                broken = event["broken"]
                words = f"leaves the GPU unusable: {next(iter(broken['failed'].values()))}"
                run["results"].append(failure(task, options.passes, words))
                excluded.setdefault(task["shape"], []).append(task["contender"])
                log(f"  {task['shape']}: {task['contender']} {words}")
                return done
            elif "done" in event:
                run["results"] += pending
                pending = []
                done.add(event["done"])
                keep(run)
                times = ", ".join(f"{name} {value:.3g}" for name, value in event["medians"].items())
                log(f"  {event['done']}: {times} ms")
    finally:
        stop(process)
    if lost and not task["contender"]:
        raise WorkerFailed(
            f"the measuring process {lost} while {task['what']} {task['shape']}".rstrip() + ": see above"
        )
    if lost:
        run["results"].append(failure(task, options.passes, lost))
        excluded.setdefault(task["shape"], []).append(task["contender"])
        log(f"  {task['shape']}: {task['contender']} {lost}")
    for shape in shapes if silent else []:
        if shape.name not in done and shape.name != task["shape"]:
            left_out = task | {"shape": shape.name, "what": f"at {task['shape']}"}
            run["results"].append(failure(left_out, options.passes, f"left out: {lost}"))
            excluded.setdefault(shape.name, []).append(task["contender"])
    return done


def measure(options: Options, keep: Callable[[dict], None], log: Callable[[str], None]) -> dict:
    """The whole run; `keep` gets it as it stands after each shape."""
    run = new_run(options)
    left, excluded = list(options.shapes), {}
    while left:
        finished = attempt(options, run, left, excluded, keep, log)
        left = [shape for shape in left if shape.name not in finished]
    return run


def load(path: Path) -> dict:
    try:
        run = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a file of --json in {path}, got {error}") from error
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise ValueError(f"expected a file of --json, format {FORMAT}, in {path}")
    return run
