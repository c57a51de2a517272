#!/usr/bin/env python3
"""How much memory MSA row attention takes at OpenFold's training shapes: OpenFold's own formula beside longfold.

Forward and backward, with the layouts that OpenFold's modules make: q, k, v [B, N, H, L, D] as views of
[B, N, L, H, D], the pair bias [B, 1, H, L, L] as a view of [B, L, L, H], the mask bias [B, N, 1, 1, L]. The stock
formula materialises the logits [B, N, H, L, L], adds the biases to them in place, and takes softmax and two products.
Every byte that a tensor holds is counted, by longfold.memory.MemoryMeter; times are not looked at. On the CPU it runs
in fp32, on a GPU (--device cuda) in bf16, whose logits are half as large.
"""

import argparse
import dataclasses
import datetime
import os
import pathlib
import platform
import sys

import torch
from torch import Tensor

from longfold.memory import MemoryMeter
from longfold.openfold import attention as longfold_attention

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "results"
MIB = 1 << 20
STOCK_PEAK = 3.2  # about what the stock formula holds at once, in logits: says before the run how many rows fit
PAIR_COPIES = 8  # the contract of docs/evoformer.md: partial sums of the pair bias's gradient
SCRATCH = 4 * MIB  # and scratch, for each thread
SMALL = 0.5  # GiB for the stock formula with --small
OF_GPU = 0.9  # of its free memory, where --memory does not say how much
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class BadInput(Exception):
    """The user's mistake, in one line."""


STOCK = [
    "Stock: the formula of OpenFold's `_attention`, which it runs where no kernel is asked for. The logits are",
    "materialised, biases are added to them in place, then come softmax and the product with v; q is scaled before.",
    "OpenFold's options that trade time for memory (chunks, checkpoints, kernels) are not used.",
]


@dataclasses.dataclass(frozen=True)
class Shape:
    """One use of MSA row attention: num_rows sequences of length residues."""

    name: str
    num_rows: int
    length: int
    heads: int
    head_dim: int

    def logits(self, num_rows: int, element_size: int = 4) -> int:
        """Bytes of the logits."""
        return element_size * num_rows * self.heads * self.length**2


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and in what type everything is computed."""

    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32


# OpenFold's config: msa clusters, extra MSA and crop of initial training and of fine-tuning.
SHAPES = [
    Shape("initial training, MSA", 128, 256, 8, 32),
    Shape("initial training, extra MSA", 1024, 256, 8, 8),
    Shape("fine-tuning, MSA", 512, 384, 8, 32),
    Shape("fine-tuning, extra MSA", 5120, 384, 8, 8),
]


@dataclasses.dataclass
class Measured:
    """Bytes of one forward and backward."""

    parts: dict[str, int]  # what any implementation must hold
    total: int  # peak, all of these included

    @property
    def extra(self) -> int:
        return self.total - sum(self.parts.values())


def stock_attention(query: Tensor, key: Tensor, value: Tensor, biases: list[Tensor]) -> Tensor:
    """What OpenFold computes on [*, H, L, D] where no kernel is asked for; query is scaled already."""
    logits = torch.matmul(query, key.transpose(-1, -2))
    for bias in biases:
        logits += bias
    logits = torch.nn.functional.softmax(logits, dim=-1)
    return torch.matmul(logits, value)


def num_bytes(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure(attention, shape: Shape, num_rows: int, place: Place) -> tuple[Measured, list[Tensor]]:
    """The memory of one forward and backward, inputs included, and the results for a comparison."""
    generator = torch.Generator(place.device).manual_seed(0)
    options = {"device": place.device, "dtype": place.dtype}

    def randn(*sizes: int) -> Tensor:
        return torch.randn(1, *sizes, generator=generator, **options)

    with MemoryMeter(place.device) as meter:
        rows = (num_rows, shape.length, shape.heads, shape.head_dim)
        q, k, v = (randn(*rows).requires_grad_() for _ in range(3))
        with torch.no_grad():
            q *= shape.head_dim**-0.5
        edges = randn(shape.length, shape.length, shape.heads).requires_grad_()
        mask = torch.zeros(1, num_rows, shape.length, **options)
        mask[..., -shape.length // 8 :] = -1e9  # padding
        grad_out = randn(*rows)
        pair_bias = edges.permute(0, 3, 1, 2).unsqueeze(-4)
        biases = [mask[..., :, None, None, :], pair_bias]
        out = attention(*(x.transpose(-2, -3) for x in (q, k, v)), biases).transpose(-2, -3)
        grads = torch.autograd.grad(out, [q, k, v, edges], grad_out)
    parts = {
        "inputs": num_bytes(q, k, v, edges, mask, grad_out),
        "output": num_bytes(out),
        "gradients": num_bytes(*grads),
    }
    return Measured(parts, meter.extra_peak), [out.detach(), *grads]


def contract(shape: Shape, num_rows: int, place: Place) -> dict[str, int]:
    """What longfold may hold beyond inputs, output and gradients."""
    rows = num_rows * shape.heads
    if place.device.type == "cpu":
        of_queries = {"delta": 4 * rows * shape.length}
    else:
        of_queries = {
            "delta and log-sum-exp": 16 * rows * -(-shape.length // 128) * 128,
            "a copy of the pair bias, whose heads are innermost": place.dtype.itemsize
            * shape.heads
            * shape.length
            * (-(-shape.length // 8) * 8),
        }
    allowed = {
        "log-sum-exp and its correction": 8 * rows * shape.length,
        **of_queries,
        f"{PAIR_COPIES} partial copies of the pair gradient": PAIR_COPIES * 4 * shape.heads * shape.length**2,
    }
    if place.device.type == "cpu":
        allowed[f"scratch of {torch.get_num_threads()} threads"] = torch.get_num_threads() * SCRATCH
    return allowed


def rows_that_fit(shape: Shape, memory: int, place: Place) -> int:
    """As many rows as the stock formula can hold, at most those of OpenFold."""
    fit = int(memory / (STOCK_PEAK * shape.logits(1, place.dtype.itemsize)))
    return shape.num_rows if fit >= shape.num_rows else max(1, fit // 64 * 64 or fit)


def compare(shape: Shape, num_rows: int, place: Place) -> tuple[Measured, Measured, float]:
    """longfold, the stock formula, and the largest difference of their results, relative to the largest value."""
    longfold, results = measure(longfold_attention, shape, num_rows, place)
    stock, expected = measure(stock_attention, shape, num_rows, place)
    pairs = zip(results, expected, strict=True)
    return longfold, stock, max(((a.float() - b.float()).abs().max() / b.abs().max()).item() for a, b in pairs)


def compare_what_fits(shape: Shape, num_rows: int, place: Place) -> tuple[int, Measured, Measured, float]:
    """The same with fewer rows until a GPU holds the stock formula; how many come first."""
    while True:
        try:
            return num_rows, *compare(shape, num_rows, place)
        except torch.OutOfMemoryError:
            if num_rows == 1:
                raise
        torch.cuda.empty_cache()
        fewer = num_rows * 7 // 8
        fewer = fewer // 64 * 64 or fewer
        print(f"  {shape.name}: {num_rows:,} rows do not fit, tries {fewer:,}", file=sys.stderr, flush=True)
        num_rows = fewer


def mib(size: float) -> str:
    return f"{size / MIB:,.0f}"


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def report(shapes: list[Shape], memory: int, place: Place) -> list[str]:
    """Two Markdown tables: the comparison, and what longfold's bytes are."""
    if place.device.type == "cuda":  # libraries take their workspace at the first call, and keep it
        compare(Shape("warm-up", 2, 64, 8, 8), 2, place)
    comparison = [
        row(["shape", "N", "L", "H", "D", "stock total", "longfold total", "ratio", "stock extra", "longfold extra"]
            + ["contract", "difference"]),
        row(["---"] + ["--:"] * 11),
    ]  # fmt: skip
    breakdown, cut = [], []
    for shape in shapes:
        num_rows, longfold, stock, difference = compare_what_fits(shape, rows_that_fit(shape, memory, place), place)
        allowed = contract(shape, num_rows, place)
        n = f"{num_rows:,}" if num_rows == shape.num_rows else f"{num_rows:,} of {shape.num_rows:,}"
        if num_rows < shape.num_rows and not cut:
            cut = [
                f'Where N says "of", the stock formula needs more than {memory / 2**30:.3g} GiB for the N of OpenFold.',
                "Both sides grow linearly in N, but for the pair bias, its gradient and scratch, which do not grow: at",
                "the full N the ratio is a little larger.",
                "",
            ]
        numbers = [stock.total, longfold.total, stock.extra, longfold.extra, sum(allowed.values())]
        texts = [mib(number) for number in numbers]
        texts.insert(2, f"**{stock.total / longfold.total:.1f}x**")
        sizes = [n, *map(str, (shape.length, shape.heads, shape.head_dim))]
        comparison.append(row([shape.name, *sizes, *texts, f"{difference:.0e}"]))
        if not breakdown:
            names = ["shape", *longfold.parts, "extra, measured", "of which may be", *allowed]
            breakdown = [row(names), row(["---"] + ["--:"] * (len(names) - 1))]
        cells = [*longfold.parts.values(), longfold.extra, sum(allowed.values()), *allowed.values()]
        breakdown.append(row([shape.name, *map(mib, cells)]))
        print(f"  {shape.name}: {stock.total / longfold.total:.1f}x", file=sys.stderr, flush=True)
    return [
        f"Forward and backward in {name_of(place.dtype)}, B = 1, peak in MiB. Total: inputs, outputs and gradients",
        "counted; extra: beyond these. Contract: the extra memory that longfold promises at most. Difference: the",
        "largest of results and gradients, relative to the largest value.",
        "",
        *comparison,
        "",
        *cut,
        "What longfold's bytes are, in MiB:",
        "",
        *breakdown,
    ]


def name_of(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def machine(place: Place) -> list[str]:
    cpu = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    words = f"{cpu}, {os.cpu_count()} cores, {total:.0f} GiB; {torch.get_num_threads()} threads"
    if place.device.type == "cuda":
        gpu = torch.cuda.get_device_properties(place.device)
        words = (
            f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB; CUDA {torch.version.cuda}; counted by torch's allocator"
        )
    return [
        f"- machine: {words}",
        f"- versions: torch {torch.__version__}, Python {platform.python_version()}",
        f"- command: `python examples/openfold_memory.py {' '.join(sys.argv[1:])}`",
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="few rows, in seconds")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="(default cpu)")
    parser.add_argument("--dtype", choices=DTYPES, help="(default: fp32 on the CPU, bf16 on a GPU)")
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help=f"for the stock formula (default: 12 on the CPU, {OF_GPU:.0%} of what is free on a GPU)",
    )
    parser.add_argument(
        "--write",
        nargs="?",
        type=pathlib.Path,
        const=RESULTS,
        metavar="FOLDER",
        help="write openfold-memory-<date>.md as well, to docs/results if no folder is given",
    )
    return parser.parse_args()


def memory_for_stock(arguments: argparse.Namespace) -> float:
    """GiB."""
    if arguments.small:
        return SMALL
    if arguments.memory is not None:
        return arguments.memory
    return OF_GPU * torch.cuda.mem_get_info()[0] / 2**30 if arguments.device == "cuda" else 12


def main() -> None:
    arguments = parse_arguments()
    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise BadInput("expected a GPU that torch can use for --device cuda, got none")
    MemoryMeter()  # counts from here on
    place = Place(torch.device(arguments.device), DTYPES[arguments.dtype or ("bf16" if on_gpu else "fp32")])
    try:
        lines = report(SHAPES, int(memory_for_stock(arguments) * 2**30), place)
    except RuntimeError as error:
        if "the CUDA kernels of this build are missing" in str(error):
            raise BadInput(str(error)) from error
        raise
    print("\n".join(lines))
    if arguments.write is not None:
        arguments.write.mkdir(exist_ok=True)
        page = [
            "# Memory of MSA row attention at OpenFold's training shapes",
            "",
            *machine(place),
            "",
            *STOCK,
            "",
            *lines,
            "",
        ]
        path = arguments.write / f"openfold-memory-{'cuda-' if on_gpu else ''}{datetime.date.today().isoformat()}.md"
        path.write_text("\n".join(page))
        print(f"\nwritten to {path}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        print(f"openfold_memory: {error}", file=sys.stderr)
        sys.exit(2)
