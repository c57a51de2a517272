#!/usr/bin/env python3
"""Evoformer attention on a GPU: longfold beside what else is installed, in one run.

Eager torch, SDPA, FlexAttention, trifast, cuEquivariance and DeepSpeed's kernel take turns with longfold at the shapes
of real models: time forward and forward + backward, peak memory, error against fp64, and whether the bits repeat. The
page goes to standard output. A contender that fails has the reason in its row, one that is not installed is named.
"""

import argparse
import json
import sys
from pathlib import Path

from comparison import contenders, page, runs, shapes
from comparison.table import PASSES

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


class BadArgument(Exception):
    """The user's mistake, in one line."""


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    known = ", ".join(contender.name for contender in contenders.CONTENDERS)
    parser.add_argument("--shapes", type=words, default=[], metavar="NAME,...", help="some of them (default all)")
    parser.add_argument(
        "--contenders",
        type=words,
        default=[],
        metavar="NAME,...",
        help=f"some of {known}, or NAME=MODULE:FUNCTION, a function (q, k, v, mask, pair) of your own (default all)",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="bf16", help="(default bf16)")
    parser.add_argument("--passes", choices=[*PASSES, "all"], default="all", help="what to time (default all)")
    parser.add_argument("--seconds", type=float, default=4, help="of timing for each shape (default 4)")
    parser.add_argument(
        "--patience", type=float, default=120, metavar="SECONDS", help="for a call that may compile first (default 120)"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a dry run, of tiny shapes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the raw numbers, as they come")
    parser.add_argument(
        "--from-json", type=Path, nargs="+", metavar="FILE", help="measure nothing: make the page of these"
    )
    parser.add_argument(
        "--write",
        nargs="?",
        type=Path,
        const=RESULTS,
        metavar="FOLDER",
        help="write evoformer-<gpu>-<date>.md and .svg as well, to docs/results if no folder is given",
    )
    return parser.parse_args()


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(arguments: argparse.Namespace) -> dict:
    if arguments.seconds <= 0 or arguments.patience <= 0:
        raise BadArgument("expected --seconds and --patience above 0")
    try:
        chosen, players = shapes.named(arguments.shapes), contenders.named(arguments.contenders)
    except ValueError as error:
        raise BadArgument(error) from error
    custom = [name for name in arguments.contenders if "=" in name]
    options = runs.Options(
        shapes=[shape.tiny() for shape in chosen] if arguments.device == "cpu" else chosen,
        contenders=players,
        names=[contender.name for contender in players if contender.name in contenders.NAMES] + custom,
        device=arguments.device,
        dtype=DTYPES[arguments.dtype],
        passes=list(PASSES) if arguments.passes == "all" else [arguments.passes],
        seconds=arguments.seconds,
        patience=arguments.patience,
        command=" ".join(["python bench/evoformer_cuda.py", *sys.argv[1:]]),
    )

    def keep(run: dict) -> None:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(run))

    missing = runs.new_run(options)["missing"]
    for name, why in missing.items():
        if name == "longfold" or len(missing) == len(players):
            raise BadArgument(
                f"expected {name} to be there, it is {why}; set PYTHONPATH, or leave it to `make bench-cuda`"
            )
        log(f"  {name}: {why}")
    return runs.measure(options, keep, log)


def main() -> None:
    arguments = parse_arguments()
    try:
        found = [runs.load(path) for path in arguments.from_json] if arguments.from_json else [measure(arguments)]
        text = page.render(found)
    except ValueError as error:
        raise BadArgument(error) from error
    print(text, end="")
    if arguments.write is not None:
        log(f"written to {page.write(found, arguments.write)}")
    log(page.summary(found))


if __name__ == "__main__":
    try:
        main()
    except (BadArgument, runs.WorkerFailed) as error:
        print(f"evoformer_cuda: {error}", file=sys.stderr)
        sys.exit(2)
