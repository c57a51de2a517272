"""What runs found, put side by side: for each type and shape one result of each contender, and the verdicts."""

import dataclasses
import math
import statistics

from .contenders import CONTENDERS, OF_TORCH
from .shapes import Shape

WRONG = 0.1  # relative error: no rounding of any type comes near it
LABELS = {contender.name: contender.label for contender in CONTENDERS}
PASSES = {"forward": "forward", "both": "forward + backward"}


def label(contender: str) -> str:
    return LABELS.get(contender, contender)


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender at one shape."""

    result: dict
    run: int  # from 1

    def median(self, which: str) -> float | None:
        times = self.result.get("times_ms", {}).get(which)
        return statistics.median(times) if times else None

    def range(self, which: str) -> tuple[float, float] | None:
        times = self.result.get("times_ms", {}).get(which)
        return (min(times), max(times)) if times else None

    @property
    def errors(self) -> dict[str, float]:
        return self.result.get("errors", {})

    @property
    def wrong(self) -> list[str]:
        """Results that are no rounding of the exact ones; NaN counts."""
        return [name for name, error in self.errors.items() if not error < WRONG]

    @property
    def repeats(self) -> dict[str, bool]:
        return self.result.get("repeats", {})

    @property
    def failures(self) -> list[str]:
        """One reason, or one for each pass where they differ."""
        failed = self.result.get("failed", {})
        if len(set(failed.values())) <= 1 and not self.result.get("times_ms"):
            return list(failed.values())[:1]
        return [f"{PASSES[which]}: {why}" for which, why in failed.items()]


@dataclasses.dataclass(frozen=True)
class Block:
    """All contenders at one shape, in one type."""

    dtype: str
    shape: Shape
    rows: dict[str, Row]

    def best_peer(self, which: str) -> tuple[str, float] | None:
        times = {name: row.median(which) for name, row in self.rows.items() if name != "longfold" and not row.wrong}
        times = {name: time for name, time in times.items() if time is not None}
        return min(times.items(), key=lambda item: item[1]) if times else None

    def lead(self, which: str) -> float | None:
        """The best peer's time over longfold's; infinite where no peer ran; None where longfold did not."""
        ours = self.rows["longfold"].median(which) if "longfold" in self.rows else None
        if ours is None or self.rows["longfold"].wrong:
            return None
        peer = self.best_peer(which)
        return peer[1] / ours if peer else math.inf

    def ahead(self, passes: list[str]) -> bool:
        leads = [self.lead(which) for which in passes]
        return all(lead is not None and lead > 1 for lead in leads)

    def error_ratio(self) -> tuple[str, float] | None:
        """The result in which longfold errs most beside the best of torch's own, and how many times as much."""
        ours = self.rows["longfold"].errors if "longfold" in self.rows else {}
        ratios = {}
        for name, error in ours.items():
            theirs = [self.rows[c].errors[name] for c in OF_TORCH if c in self.rows and name in self.rows[c].errors]
            theirs = [value for value in theirs if value < WRONG]
            if theirs:
                ratios[name] = error / max(min(theirs), 1e-300)
        return max(ratios.items(), key=lambda item: item[1]) if ratios else None


def merge(runs: list[dict]) -> list[Block]:
    """Later runs replace what they measured again."""
    devices = {run["machine"].get("device", "") for run in runs if run["machine"]}
    if len(devices) > 1:
        raise ValueError(f"expected runs of one device, got {' and '.join(sorted(devices))}")
    shapes: dict[tuple[str, str], Shape] = {}
    rows: dict[tuple[str, str], dict[str, Row]] = {}
    for number, run in enumerate(runs, 1):
        for fields in run["shapes"]:
            key, shape = (run["dtype"], fields["name"]), Shape(**fields)
            if shapes.setdefault(key, shape) != shape:
                raise ValueError(f"expected one size of {shape.name} in all runs, got {shapes[key]} and {shape}")
        found: dict[tuple[str, str], dict[str, Row]] = {}
        for result in run["results"]:
            found.setdefault((run["dtype"], result["shape"]), {})[result["contender"]] = Row(result, number)
        for key, new in found.items():
            rows[key] = rows.get(key, {}) | new
    order = {contender.name: i for i, contender in enumerate(CONTENDERS)}
    blocks = []
    for (dtype, name), shape in shapes.items():
        found = rows.get((dtype, name), {})
        sorted_rows = dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))
        if found:
            blocks.append(Block(dtype, shape, sorted_rows))
    return blocks


def passes_of(runs: list[dict]) -> list[str]:
    return [which for which in PASSES if any(which in run["passes"] for run in runs)]
