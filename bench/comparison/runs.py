"""One run: worker processes until every shape is measured, and what they found as one value that JSON can hold.

A contender that breaks the device or ends its process is left out of that shape, with the reason, and the shape begins
anew: none of them costs the others their results. One that says nothing for too long (it may be compiling for minutes)
is left out of all shapes to come.
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


class Attempt:
    """What one worker did of these shapes. A contender that ended it is excluded from where it did."""

    def __init__(self, options: Options, run: dict, shapes: list[Shape], excluded: dict[str, list[str]]) -> None:
        self.options, self.run, self.shapes, self.excluded = options, run, shapes, excluded
        self.task = {"shape": "", "contender": "", "what": "starting"}
        self.pending: list[dict] = []  # results of the shape at hand, which begins anew if it is not finished
        self.done: set[str] = set()

    def leave_out(self, shape: str, words: str, what: str) -> None:
        failed = dict.fromkeys(self.options.passes, f"{words} ({what})")
        self.run["results"].append({"shape": shape, "contender": self.task["contender"], "failed": failed})
        self.excluded.setdefault(shape, []).append(self.task["contender"])

    def lost(self, words: str, silent: bool) -> None:
        """The worker is no more."""
        task = self.task
        if not task["contender"]:
            where = f"{task['what']} {task['shape']}".rstrip()
            raise WorkerFailed(f"the measuring process {words} while {where}: see above")
        self.leave_out(task["shape"], words, task["what"])
        for shape in self.shapes if silent else []:
            if shape.name not in self.done and shape.name != task["shape"]:
                self.leave_out(shape.name, f"left out: {words}", f"at {task['shape']}")

    def take(self, event: dict) -> str:
        """One event of the worker; words for the log, or none."""
        if "task" in event:
            self.task = event["task"]
        elif "unusable" in event:
            raise WorkerFailed(event["unusable"])
        elif "machine" in event:
            self.run["machine"], self.run["versions"] = event["machine"], event["versions"]
        elif "result" in event:
            self.pending.append(event["result"])
        elif "done" in event:
            self.run["results"] += self.pending
            self.pending = []
            self.done.add(event["done"])
            times = ", ".join(f"{name} {value:.3g}" for name, value in event["medians"].items())
            return f"{event['done']}: {times} ms"
        return ""


def attempt(
    options: Options, run: dict, shapes: list[Shape], excluded: dict, keep: Callable, log: Callable
) -> set[str]:
    """Names of the shapes that one worker finished."""
    process, events = start(options, run, shapes, excluded)
    found = Attempt(options, run, shapes, excluded)
    words, silent = "", False
    try:
        while not words:
            patience = options.patience + (0 if found.task["shape"] else STARTING)
            try:
                event = events.get(timeout=patience)
            except queue.Empty:
                words, silent = f"said nothing for {patience:g} s", True
                break
            if event is None:
                code = process.wait()
                if code == 0 and len(found.done) == len(shapes):
                    return found.done
                words = f"ended its process with {'signal' if code < 0 else 'status'} {abs(code)}"
            elif "broken" in event:
                words = f"leaves the GPU unusable: {next(iter(event['broken']['failed'].values()))}"
            elif line := found.take(event):
                keep(run)
                log(f"  {line}")
    finally:
        stop(process)
    log(f"  {found.task['shape']}: {found.task['contender']} {words}")
    found.lost(words, silent)
    return found.done


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
