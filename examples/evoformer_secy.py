#!/usr/bin/env python3
"""MSA row attention, forward and backward, on a real protein alignment: longfold beside eager torch.

The alignment is real (SecY, Pfam PF00344, 158 sequences x 614 columns); the network is not: queries, keys, values and
the pair bias are seeded random projections of its one-hot encoding. Columns where a sequence has a gap are masked.
It runs on the GPU if there is one, in bf16 as models do there, else on the CPU in fp32.
"""

import argparse
import gzip
import pathlib
import sys
import time

import torch
from torch import Tensor

from longfold import evoformer_attention
from longfold.memory import MemoryMeter

ALIGNMENT = pathlib.Path(__file__).resolve().parent.parent / "data" / "SecY-PF00344.sto.gz"
HEADS, HEAD_DIM, PAIR_DIM = 8, 32, 4
RESIDUES = "ACDEFGHIKLMNPQRSTVWYX"  # X: unknown
GAPS = ".-"
MASKED = -1e9
NUM_SAMPLES = 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class BadInput(Exception):
    """The user's mistake, in one line."""


def read_stockholm(path: pathlib.Path) -> dict[str, str]:
    """Aligned sequences by name. Blocks may be interleaved: fragments of a name are joined in order."""
    sequences: dict[str, str] = {}
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
            if not next(lines, "").startswith("# STOCKHOLM"):
                raise BadInput(f"expected '# STOCKHOLM' in the first line of {path}")
            for number, line in enumerate(lines, 2):
                if line.startswith("//"):
                    break
                if line.startswith("#") or not line.strip():
                    continue
                fields = line.split()
                if len(fields) != 2:
                    raise BadInput(f"expected a name and a sequence in line {number} of {path}, got {line.strip()!r}")
                sequences[fields[0]] = sequences.get(fields[0], "") + fields[1]
            else:
                raise BadInput(f"expected '//' at the end of {path}: the file is cut short")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    if not sequences:
        raise BadInput(f"expected sequences in {path}, got none")
    first, length = next((name, len(text)) for name, text in sequences.items())
    for name, text in sequences.items():
        if len(text) != length:
            raise BadInput(f"expected {length} columns for {name} in {path}, as for {first}, got {len(text)}")
    return sequences


def encode(sequences: dict[str, str]) -> tuple[Tensor, Tensor]:
    """One-hot encoding [N, L, 22], the last of which is the gap, and where the gaps are [N, L]."""
    codes = {letter: code for code, letter in enumerate(RESIDUES)} | {gap: len(RESIDUES) for gap in GAPS}
    unknown = codes["X"]
    tokens = torch.tensor([[codes.get(letter.upper(), unknown) for letter in text] for text in sequences.values()])
    return torch.nn.functional.one_hot(tokens, len(RESIDUES) + 1).float(), tokens == len(RESIDUES)


def choose_device(asked: str | None) -> torch.device:
    """The one asked for, or a GPU where there is one that longfold was built for: what is in the way is said."""
    if asked == "cpu" or (asked is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BadInput("expected a GPU that torch can use for --device cuda, got none")
    try:
        evoformer_attention(*(torch.zeros(1, 1, 1, 1, 1, device="cuda") for _ in range(3)))
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        if asked == "cuda":
            raise BadInput(why) from error
        print(f"There is a GPU here, but this runs on the CPU: {why}")
        return torch.device("cpu")
    return torch.device("cuda")


def device_words(device: torch.device) -> str:
    if device.type == "cuda":
        return f"on the GPU {torch.cuda.get_device_name(device)}"
    return f"on the CPU, {torch.get_num_threads()} threads"


def make_inputs(one_hot: Tensor, gaps: Tensor) -> dict[str, Tensor]:
    """q, k, v [1, N, L, H, D], mask [1, N, 1, 1, L] and pair [1, 1, H, L, L], of fp32, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    num_rows, length, num_codes = one_hot.shape

    def project(width: int) -> Tensor:
        return (one_hot @ torch.randn(num_codes, width, generator=generator)).view(num_rows, length, HEADS, -1)

    q, k, v = (project(HEADS * HEAD_DIM)[None] for _ in range(3))
    left, right = project(HEADS * PAIR_DIM), project(HEADS * PAIR_DIM)
    pair = torch.einsum("nihc,njhc->hij", left, right)[None, None] / num_rows  # the outer product mean
    mask = torch.zeros(num_rows, length).masked_fill_(gaps, MASKED)[None, :, None, None]
    return {"q": q, "k": k, "v": v, "mask": mask, "pair": pair}


def longfold_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, pair: Tensor) -> Tensor:
    return evoformer_attention(q, k, v, [mask, pair])


def eager_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, pair: Tensor) -> Tensor:
    logits = torch.einsum("bnihd,bnjhd->bnhij", q * q.shape[-1] ** -0.5, k)
    weights = (logits + mask + pair).softmax(-1)
    return torch.einsum("bnhij,bnjhd->bnihd", weights, v)


def measure(attention, inputs: dict[str, Tensor], cotangent: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The output and all gradients; seconds and extra bytes."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    device = cotangent.device

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    with MemoryMeter(device) as meter:
        start = now()
        out = attention(**leaves)
        middle = now()
        grads = torch.autograd.grad(out, list(leaves.values()), cotangent)
        end = now()
    results = {"out": out.detach()} | {f"grad_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return results, {"forward": middle - start, "backward": end - middle, "memory": meter.extra_peak}


def spread(count: int) -> list[int]:
    """A few indices, evenly over 0 .. count - 1."""
    return sorted({round(i * (count - 1) / max(1, NUM_SAMPLES - 1)) for i in range(NUM_SAMPLES)})


def exact_samples(inputs: dict[str, Tensor], cotangent: Tensor) -> dict[str, Tensor]:
    """The same in fp64 for a few rows; for the pair bias, whose gradient sums over rows, a few queries of all rows."""
    x, grad = {name: value.double() for name, value in inputs.items()}, cotangent.double()
    rows, queries = spread(x["q"].shape[1]), spread(x["q"].shape[2])
    leaves = {n: (t if n == "pair" else t[:, rows]).clone().requires_grad_() for n, t in x.items()}
    out = eager_attention(**leaves)
    names = ["q", "k", "v", "mask"]
    grads = torch.autograd.grad(out, [leaves[name] for name in names], grad[:, rows])
    results = {"out": out.detach()} | {f"grad_{name}": g for name, g in zip(names, grads, strict=True)}
    pair = x["pair"][..., queries, :].clone().requires_grad_()
    out = eager_attention(x["q"][:, :, queries], x["k"], x["v"], x["mask"], pair)
    (results["grad_pair"],) = torch.autograd.grad(out, pair, grad[:, :, queries])
    return results


def errors(results: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """The largest error of the sampled values, relative to the largest of them."""
    rows, queries = spread(results["grad_q"].shape[1]), spread(results["grad_q"].shape[2])
    found = {}
    for name, value in exact.items():
        got = results[name][..., queries, :] if name == "grad_pair" else results[name][:, rows]
        found[name] = ((got.double() - value).abs().max() / value.abs().max()).item()
    return found


def one_row(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value if name == "pair" else value[:, :1] for name, value in inputs.items()}


def memory_for_eager(inputs: dict[str, Tensor]) -> int:
    """About what eager attention holds at once: four tensors of the size of the logits."""
    _, num_rows, length, heads, _ = inputs["q"].shape
    return 4 * inputs["q"].element_size() * num_rows * heads * length * length


def available_memory(device: torch.device) -> int:
    """Bytes that this process may still take: of the GPU, or of the machine and its control group's limit if any."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    fields = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    group = pathlib.Path("/sys/fs/cgroup")
    limit = (group / "memory.max").read_text().strip() if (group / "memory.max").exists() else "max"
    if limit != "max":
        available = min(available, int(limit) - int((group / "memory.current").read_text()))
    return available


def print_table(columns: dict[str, tuple[dict[str, float], dict[str, float]]]) -> None:
    def line(label: str, cells: list[str]) -> None:
        print(f"  {label:34}" + "".join(f"{cell:>16}" for cell in cells))

    measured, wrong = [c[0] for c in columns.values()], [c[1] for c in columns.values()]
    times = {"forward": [m["forward"] for m in measured]}
    times["forward + backward"] = [m["forward"] + m["backward"] for m in measured]
    factor, unit = (1e3, "ms") if max(times["forward + backward"]) < 0.1 else (1, "s")
    line("", list(columns))
    for label, values in times.items():
        line(label, [f"{factor * value:.2f} {unit}" for value in values])
    line("peak extra memory *", [f"{m['memory'] / 2**20:,.0f} MiB" for m in measured])
    for name in wrong[0]:
        label = "output" if name == "out" else f"gradient of {name.removeprefix('grad_')}"
        line(f"error of {label} **", [f"{w[name]:.1e}" for w in wrong])
    print("  *  beyond the inputs: outputs, gradients and whatever is held in between")
    print("  ** largest error against fp64 on sampled rows, relative to the largest value")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "alignment", nargs="?", type=pathlib.Path, default=ALIGNMENT, help="Stockholm file, may be gzip"
    )
    parser.add_argument("--rows", type=int, help="use only so many sequences")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="(default: the GPU if there is one)")
    parser.add_argument("--dtype", choices=DTYPES, help="(default: bf16 on a GPU, else fp32)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    MemoryMeter()  # counts from here on
    device = choose_device(arguments.device)
    dtype = arguments.dtype or ("bf16" if device.type == "cuda" else "fp32")
    sequences = read_stockholm(arguments.alignment)
    if arguments.rows is not None:
        if not 1 <= arguments.rows <= len(sequences):
            raise BadInput(f"expected --rows between 1 and {len(sequences)}, got {arguments.rows}")
        sequences = dict(list(sequences.items())[: arguments.rows])
    one_hot, gaps = encode(sequences)
    inputs = {name: value.to(device, DTYPES[dtype]) for name, value in make_inputs(one_hot, gaps).items()}
    num_rows, length = gaps.shape
    print(f"Evoformer MSA row attention on {arguments.alignment.name}: {num_rows} sequences x {length} columns")
    print(f"  {device_words(device)}, in {dtype}; {gaps.float().mean():.0%} gaps, masked; {HEADS} heads of {HEAD_DIM}")
    print("  Q, K, V and the pair bias are seeded random projections of the one-hot encoding, not a trained network")
    print(f"  the logits alone would be {memory_for_eager(inputs) / 4 / 2**20:,.0f} MiB", flush=True)

    cotangent = torch.randn(inputs["q"].shape, generator=torch.Generator().manual_seed(1)).to(device, DTYPES[dtype])
    exact = exact_samples(inputs, cotangent)
    attentions = {"longfold": longfold_attention}
    needed, available = memory_for_eager(inputs), available_memory(device)
    if needed < available:
        attentions["eager torch"] = eager_attention
    else:
        gib = f"it needs about {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} are free"
        print(f"  eager torch is left out: {gib}; try fewer --rows")
    warm_up, few = (inputs, None) if device.type == "cuda" else (one_row(inputs), 1)  # a GPU's first call loads kernels
    columns = {}
    for name, attention in attentions.items():
        measure(attention, warm_up, cotangent[:, :few])
        results, measured = measure(attention, inputs, cotangent)
        columns[name] = (measured, errors(results, exact))
        del results
    print_table(columns)
    print("Try next:")
    print("  python examples/evoformer_secy.py --rows 32        fewer sequences")
    print("  python examples/evoformer_secy.py YOURS.sto.gz     an alignment of your own, in Stockholm format")
    print(
        "  from longfold import evoformer_attention           in your model: evoformer_attention(q, k, v, [mask, pair])"
    )
    print("  longfold.deepspeed4science.install()               where it asks for DS4Sci_EvoformerAttention")


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        print(f"evoformer_secy: {error}", file=sys.stderr)
        sys.exit(2)
