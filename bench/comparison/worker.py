"""The process that measures: takes a task as JSON, sends events as lines of JSON.

    {"task": ...}                 what it is doing now, and for whom: it may not survive that
    {"machine": ..., "versions": ...}
    {"result": ...}               of one contender at one shape
    {"broken": ...}               the contender left the device unusable: start another process without it
    {"done": ...}                 the name of a shape
    {"unusable": ...}             nothing can be measured here, and why

It may be killed at any time; everything that it has sent counts.
"""

import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable

import torch

from . import contenders, exact
from .measure import open_device
from .shapes import Shape

ROUNDS = 30  # at most
FEWEST = 3  # unless one round takes as long as the whole budget
REASON = 160  # characters


class Broken(Exception):
    """The device takes no more calls."""


class Unusable(Exception):
    """Nothing can be measured here."""


def reason(error: BaseException) -> str:
    """An exception in one line of a table."""
    if isinstance(error, torch.OutOfMemoryError):
        asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
        return "out of memory" + (f": asked for {asked[1]} more" if asked else "")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if not line.endswith(":")), len(lines))  # "X raised:" says nothing
    text = re.sub(r"\s+", " ", f"{type(error).__name__}: {' '.join(lines[: first + 1])}").replace("|", "/")
    return text if len(text) <= REASON else text[: REASON - 3] + "..."


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """NaN equals itself, 0 is not -0."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return torch.equal(a.view(integers), b.view(integers))


class Entry:
    """One contender at one shape: its calls and what is known of it."""

    def __init__(self, contender: contenders.Contender, shape: Shape, inputs: dict[str, torch.Tensor]) -> None:
        attention = contender.make()
        leaves = [inputs[name] for name in ("q", "k", "v", "pair")]

        def call():
            return attention(inputs["q"], inputs["k"], inputs["v"], inputs["mask"], inputs["pair"])

        def forward() -> dict[str, torch.Tensor]:
            with torch.no_grad():
                return {"out": call()}

        def both() -> dict[str, torch.Tensor]:
            out = call()
            grads = torch.autograd.grad(out, leaves, inputs["grad_out"])
            return {"out": out.detach()} | dict(zip(("q", "k", "v", "pair"), grads, strict=True))

        self.calls: dict[str, Callable] = {"forward": forward, "both": both}
        self.name = contender.name
        self.result = {
            "shape": shape.name,
            "contender": contender.name,
            "times_ms": {},
            "failed": {},
            "errors": {},
            "repeats": {},
            "extra_bytes": None,
        }


class Worker:
    def __init__(self, task: dict, send: Callable[[dict], None]) -> None:
        if task["device"] == "cuda" and not torch.cuda.is_available():
            raise Unusable("no GPU here that torch can use; --device cpu tries the program itself, on tiny shapes")
        self.task, self.send = task, send
        self.dtype = getattr(torch, task["dtype"])
        self.passes = task["passes"]
        self.device_name = task["device"]
        self.device = open_device(task["device"])

    def say(self, shape: Shape, contender: str, what: str) -> None:
        self.send({"task": {"shape": shape.name, "contender": contender, "what": what}})

    def guarded(self, entry: Entry, which: str, call: Callable):
        """The call's result, or None and the reason in the entry's result."""
        try:
            value = call()
            self.device.synchronize()
            return value
        except Exception as error:  # whatever it is, it goes into the table
            entry.result["failed"][which] = reason(error)
        # Here the exception is gone, and with it the tensors of the frames that it held.
        self.recover(entry)
        return None

    def recover(self, entry: Entry) -> None:
        try:
            self.device.synchronize()
            self.device.release()
        except Exception as error:
            self.send({"broken": entry.result})
            raise Broken from error

    def judge(self, entry: Entry, which: str, expected: dict[str, torch.Tensor], shape: Shape) -> None:
        """Errors, memory and repeatability, from calls after the first, which may compile and tune."""
        call = entry.calls[which]

        def run() -> None:
            call()
            peak, results = self.device.peak(call)
            entry.result["errors"] = exact.relative_errors(results, expected, shape)
            again = call()
            entry.result["repeats"] = {name: same_bits(value, again[name]) for name, value in results.items()}
            if which == "both" and peak is not None:
                held = sum(value.numel() * value.element_size() for value in results.values())
                entry.result["extra_bytes"] = peak - held
                entry.result["peak_bytes"] = peak

        self.guarded(entry, which, run)

    def contenders(self, shape: Shape) -> list[contenders.Contender]:
        excluded = self.task["excluded"].get(shape.name, [])
        return [c for c in contenders.named(self.task["contenders"]) if c.name not in excluded]

    def prepare(self, shape: Shape, inputs: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[Entry]:
        """Everything but times, contender by contender."""
        entries = []
        for contender in self.contenders(shape):
            self.device.release()
            self.say(shape, contender.name, "getting ready")
            try:
                entry = Entry(contender, shape, inputs)
            except Exception as error:  # an import that fails, a missing library of its own
                failed = dict.fromkeys(self.passes, reason(error))
                self.send({"result": {"shape": shape.name, "contender": contender.name, "failed": failed}})
                continue
            for which in self.passes:
                self.say(shape, contender.name, which)
                self.judge(entry, which, expected, shape)
            entries.append(entry)
        return entries

    def take_turns(self, shape: Shape, entries: list[Entry]) -> None:
        """Times, contender after contender, each round beginning with another one."""
        turns = [(entry, which) for entry in entries for which in self.passes if which not in entry.result["failed"]]
        held = sum(entry.result.get("peak_bytes") or 0 for entry in entries)
        crowded = self.device.crowded(held)
        spent, budget = 0.0, self.task["seconds"] * 1e3
        for number in range(-1, ROUNDS):  # -1: to warm up
            if number >= 1 and spent >= budget and (number >= FEWEST or spent >= 3 * budget):
                break
            first = number % max(1, len(turns))
            for entry, which in turns[first:] + turns[:first]:
                if which in entry.result["failed"]:
                    continue
                self.say(shape, entry.name, f"timing {which}")
                call = entry.calls[which]
                if crowded:  # make room, and take it, before the clock runs
                    self.device.release()
                    if self.guarded(entry, which, call) is None:
                        continue
                taken = self.guarded(entry, which, lambda call=call: self.device.milliseconds(call))
                if taken is not None and number >= 0:
                    entry.result["times_ms"].setdefault(which, []).append(taken)
                    spent += taken

    def measure(self, shape: Shape) -> None:
        torch._dynamo.reset()  # each shape is compiled on its own, as its own model would
        self.say(shape, "", "making inputs")
        try:
            inputs = exact.make_inputs(shape, self.dtype, self.device_name)
            expected = exact.exact_results(inputs, shape)
        except torch.OutOfMemoryError as error:
            failed = dict.fromkeys(self.passes, f"inputs and reference do not fit: {reason(error)}")
            for contender in self.contenders(shape):
                self.send({"result": {"shape": shape.name, "contender": contender.name, "failed": failed}})
            self.send({"done": shape.name, "medians": {}})
            return
        entries = self.prepare(shape, inputs, expected)
        self.take_turns(shape, entries)
        for entry in entries:
            for which in entry.result["failed"]:
                entry.result["times_ms"].pop(which, None)
            self.send({"result": entry.result})
        medians = {e.name: statistics.median(e.result["times_ms"][self.passes[-1]]) for e in entries
                   if self.passes[-1] in e.result["times_ms"]}  # fmt: skip
        self.send({"done": shape.name, "medians": medians})
        del entries, inputs
        self.device.release()

    def run(self) -> None:
        chosen = contenders.named(self.task["contenders"])
        versions = {"torch": torch.__version__, "Python": platform.python_version()}
        if any(contender.name == "longfold" for contender in chosen):
            versions = {"longfold": longfold_version()} | versions
        for contender in chosen:
            versions |= contender.versions()
        self.send({"machine": self.device.describe(), "versions": versions})
        for fields in self.task["shapes"]:
            self.measure(Shape(**fields))


def longfold_version() -> str:
    try:
        import longfold
    except ImportError as error:
        raise Unusable(str(error)) from error
    return longfold.__version__


def main() -> None:
    task = json.loads(sys.argv[1])
    with os.fdopen(task["events"], "w", buffering=1) as events:

        def send(event: dict) -> None:
            events.write(json.dumps(event) + "\n")

        try:
            Worker(task, send).run()
        except Unusable as error:
            send({"unusable": " ".join(str(error).split())})
        except Broken:
            os._exit(3)  # a device that takes no calls can hang an orderly end


if __name__ == "__main__":
    main()
