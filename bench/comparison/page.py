"""The page: machine, verdicts, times, errors, as Markdown with a plot."""

import math
import re
from pathlib import Path

from . import plot
from .table import PASSES, Block, Row, label, merge, passes_of

RESULTS = ["out", "q", "k", "v", "pair"]
DRY = "**Dry run on the CPU, of tiny shapes: it shows that the program works. No number here means anything.**"
HOW = """Milliseconds of the device, median (least-most); contenders in turn, each round beginning with another one.
Before each call L2 is flushed, and the device waits 1 ms, so that the call's launches are queued and the host's time is
not counted. Inputs as in the contract, [B, N, L, H, D] contiguous, B = 1; a mask hides 10 % of the keys; the pair bias
wants a gradient. Copies that a contender needs from this layout are in its time. Compilation and tuning come before.
Eager works in the type of its inputs throughout; SDPA's time includes adding up its bias. Of the exp floor: what one
exponential for each logit takes, at {rate}, as a share of the forward time.
Extra: peak memory of forward + backward, less inputs, output and gradients.""".splitlines()
HOW_EXACT = """Against fp64 on sampled rows (for the pair bias: sampled queries, all rows): root mean square of the
difference over that of the exact value. Bits: whether two calls gave the same ones; else which results differ. Beside
torch: the largest ratio of longfold's error, over output and gradients, to the smallest of torch's own (eager, SDPA,
FlexAttention).""".splitlines()


def milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def cells(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"


def table(head: list[str], rows: list[list[str]], left: int) -> list[str]:
    """Rows of Markdown; the first `left` columns and notes are words, the others numbers."""
    sides = ["---" if i < left or name == "note" else "--:" for i, name in enumerate(head)]
    return [cells(*head), cells(*sides), *(cells(*row) for row in rows)]


def device_name(runs: list[dict]) -> str:
    """For the page's name: NVIDIA H100 80GB HBM3 is h100."""
    if runs[0]["dry"]:
        return "dry-run"
    name = runs[0]["machine"].get("device", "gpu")
    short = re.search(r"RTX \w+|\b[A-Z]{1,2}\d+\w*", name)
    return re.sub(r"[^a-z0-9]+", "-", (short[0] if short else name).lower()).strip("-")


def machine(runs: list[dict]) -> list[str]:
    of = next((run["machine"] for run in runs if run["machine"]), {})
    lines = [f"- machine: {of.get('device', 'unknown')}"]
    if "multiprocessors" in of:
        speed = f"{of['multiprocessors']} multiprocessors at up to {of['clock_mhz']:,} MHz"
        memory = f"{of['memory_gib']:g} GiB, {of['l2_mib']} MiB L2"
        software = f"driver {of['driver']}, CUDA {of['cuda']}"
        lines[0] += f", {memory}, compute capability {of['capability']}, {speed}; {software}"
    for number, run in enumerate(runs, 1):
        which = f"run {number}, {run['date']}" if len(runs) > 1 else f"run of {run['date']}"
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        lines += [f"- {which}: `{run['command']}`; {run['dtype']}; {versions}"]
        lines += [f"  - {label(name)}: {why}" for name, why in run["missing"].items()]
    return lines


def verdicts(blocks: list[Block], passes: list[str]) -> list[str]:
    """The summary: one line in words for each type, then a table."""
    lines, rows = [], []
    for dtype in dict.fromkeys(block.dtype for block in blocks):
        of = [block for block in blocks if block.dtype == dtype]
        behind = [block.shape.name for block in of if not block.ahead(passes)]
        words = f"{dtype}: longfold is ahead of every peer at {len(of) - len(behind)} of {len(of)} shapes"
        lines.append(words + (f"; not at {', '.join(behind)}." if behind else "."))
    for block in blocks:
        row = [block.shape.name, str(block.shape), block.dtype]
        for which in passes:
            lead, peer = block.lead(which), block.best_peer(which)
            if lead is None:
                row.append(
                    "longfold is wrong" if block.rows.get("longfold", Row({}, 0)).wrong else "longfold did not run"
                )
            elif math.isinf(lead):
                row.append("no peer ran")
            else:
                other = "" if block.rows[peer[0]].run == block.rows["longfold"].run else ", of another run"
                row.append(f"{lead:.2f}x ({label(peer[0])}{other})")
        rows.append([*row, "yes" if block.ahead(passes) else "**no**"])
    return [
        *lines,
        "",
        "How many times longfold's time the fastest peer takes:",
        "",
        *table(["shape", "sizes", "type", *(PASSES[which] for which in passes), "ahead of all"], rows, 3),
    ]


def times(blocks: list[Block], passes: list[str], rate: float | None, several: bool) -> list[str]:
    rows = []
    for block in blocks:
        floor = block.shape.num_logits / rate * 1e3 if rate else None
        for name, row in block.rows.items():
            line = [f"{block.shape.name} {block.dtype}" if name == next(iter(block.rows)) else "", label(name)]
            for which in passes:
                median = row.median(which)
                if median is None:
                    line.append("-")
                    continue
                low, high = row.range(which)
                line.append(f"{milliseconds(median)} ({milliseconds(low)}-{milliseconds(high)})")
            forward, both = (row.median(which) for which in PASSES)
            line.append(milliseconds(both - forward) if forward and both else "-")
            line.append(f"{floor / forward:.0%}" if forward and floor else "-")
            extra = row.result.get("extra_bytes")
            line.append("-" if extra is None else f"{extra / 2**20:,.0f}")
            if several:
                line.append(str(row.run))
            notes = row.failures + ([f"wrong: {', '.join(row.wrong)}"] if row.wrong else [])
            rows.append([*line, "; ".join(notes)])
    head = ["shape", "by", *(PASSES[which] for which in passes), "backward", "of the exp floor"]
    return table([*head, "extra MiB", *(["run"] if several else []), "note"], rows, 2)


def accuracy(blocks: list[Block]) -> list[str]:
    rows = []
    for block in blocks:
        ratio = block.error_ratio()
        for name, row in block.rows.items():
            if not row.errors:
                continue
            numbers = [f"{row.errors[result]:.1e}" if result in row.errors else "-" for result in RESULTS]
            changed = [result for result, same in row.repeats.items() if not same]
            bits = "-" if not row.repeats else f"differ: {', '.join(changed)}" if changed else "the same"
            beside = f"{ratio[1]:.2f}x ({ratio[0]})" if ratio and name == "longfold" else ""
            first = name == next(iter(block.rows))
            rows.append([f"{block.shape.name} {block.dtype}" if first else "", label(name), *numbers, bits, beside])
    head = ["shape", "by", "out", *(f"grad of {name}" for name in RESULTS[1:]), "bits", "beside torch"]
    return table(head, rows, 2)


def draw(blocks: list[Block], rate: float | None, title: str) -> str:
    """Triangle attention over L, of the first type alone."""
    blocks = [block for block in blocks if block.shape.in_plot and block.dtype == blocks[0].dtype]
    names = list(dict.fromkeys(name for block in blocks for name in block.rows))
    panels: dict[str, list[plot.Line]] = {}
    for which, words in PASSES.items():
        panels[words] = []
        for i, name in enumerate(names):
            times = [(b.shape.length, b.rows[name].median(which)) for b in blocks if name in b.rows]
            points = [(x, y) for x, y in times if y is not None]
            panels[words].append(plot.Line(label(name), points, plot.COLORS[i % len(plot.COLORS)]))
    if rate:
        points = [(b.shape.length, b.shape.num_logits / rate * 1e3) for b in blocks]
        panels[PASSES["forward"]].append(plot.Line("exponentials alone", points, "#000", dashed=True))
    return plot.draw(title, panels)


def render(runs: list[dict], picture: str = "") -> str:
    """The page; `picture` is the plot's file name."""
    blocks, passes = merge(runs), passes_of(runs)
    rate = next((run["machine"].get("exp_per_second") for run in runs if run["machine"]), None)
    device = next((run["machine"]["device"] for run in runs if run["machine"]), "no device")
    how = [line.replace("{rate}", f"{rate / 1e12:.2f} T/s" if rate else "a rate that is not known") for line in HOW]
    return "\n".join([
        f"# Evoformer attention on {device}, {max(run['date'] for run in runs)}",
        "",
        *([DRY, ""] if runs[0]["dry"] else []),
        *machine(runs),
        "",
        "## Ahead of every peer?",
        "",
        *verdicts(blocks, passes),
        "",
        *([f"![milliseconds over L]({picture})", ""] if picture else []),
        "## Times",
        "",
        *how,
        "",
        *times(blocks, passes, rate, len(runs) > 1),
        "",
        "## Errors",
        "",
        *HOW_EXACT,
        "",
        *accuracy(blocks),
        "",
    ])  # fmt: skip


def write(runs: list[dict], folder: Path) -> Path:
    """The page and, where a plot can be made, its SVG."""
    blocks = merge(runs)
    rate = next((run["machine"].get("exp_per_second") for run in runs if run["machine"]), None)
    stem = f"evoformer-{device_name(runs)}-{max(run['date'] for run in runs)}"
    title = f"Triangle attention, N = L, H 4, D 32, {runs[0]['dtype']}"
    svg = draw(blocks, rate, title) if blocks else ""
    folder.mkdir(parents=True, exist_ok=True)
    if svg:
        (folder / f"{stem}.svg").write_text(svg)
    path = folder / f"{stem}.md"
    path.write_text(render(runs, f"{stem}.svg" if svg else ""))
    return path


def summary(runs: list[dict]) -> str:
    """The verdict in one line for each type."""
    lines = verdicts(merge(runs), passes_of(runs))
    return "\n".join(lines[: lines.index("")])
