#!/usr/bin/env python3
"""The longest sequence whose training step fits in a limit of the CPU's memory: longfold's techniques one by one, and
Hugging Face's transformers with and without its gradient checkpointing, in fp32.

    python bench/reach.py genslm-25m --memory-limit 2GiB --confirm 600

longfold's lengths come from dry runs (`longfold bench reach`); with --confirm a real step of each that may take no
longer than so many seconds shows what it took. transformers has no dry run: its peak is measured by the same counter
at two lengths, then at the length at which the straight line through the last two meets the limit, until a step takes
at most the limit and at least 0.97 of it. With --write also a page under docs/results/. Needs `make build` and
transformers (requirements.txt).
"""

import argparse
import datetime
import json
import pathlib
import platform
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
from training_step import SIZES  # noqa: E402

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

TRANSFORMERS = """
import json, sys, time
import torch
from longfold.memory import MemoryMeter
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
sizes, tokens, checkpointing = json.loads(sys.argv[1])
MemoryMeter()
config = GPTNeoXConfig(
    vocab_size=69, max_position_embeddings=tokens, use_parallel_residual=True, attn_implementation="sdpa",
    use_cache=False, **sizes)
model = GPTNeoXForCausalLM(config)
model.train()
if checkpointing:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
for parameter in model.parameters():  # its moments, as they are from the second step on
    optimizer.state[parameter] = {
        "step": torch.tensor(1.0), "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
ids = torch.randint(69, (1, tokens))
torch.ops.longfold.memory_reset_peak()
start = time.perf_counter()
loss = model(ids, labels=ids).loss
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
print(json.dumps({"bytes": torch.ops.longfold.memory_peak(), "seconds": time.perf_counter() - start}))
"""


def of_transformers(preset, tokens, checkpointing):
    arguments = json.dumps([SIZES[preset], tokens, checkpointing])
    done = subprocess.run([sys.executable, "-c", TRANSFORMERS, arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"transformers at {tokens} tokens: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def longest_of_transformers(preset, checkpointing, limit):
    """By secants; the last step measured fits."""
    points = [(tokens, of_transformers(preset, tokens, checkpointing)) for tokens in (1024, 2048)]
    while not 0.97 * limit <= points[-1][1]["bytes"] <= limit:
        (near, a), (far, b) = points[-2:]
        slope = (b["bytes"] - a["bytes"]) / (far - near)
        tokens = int((0.985 * limit - b["bytes"]) / slope + far) // 64 * 64
        points.append((tokens, of_transformers(preset, tokens, checkpointing)))
    tokens, step = points[-1]
    return {"tokens": tokens, "measured_bytes": step["bytes"], "seconds": step["seconds"]}


def of_longfold(preset, limit_text, confirm):
    program = ROOT / "build" / "release" / "longfold"
    command = [program, "bench", "reach", "--preset", preset, "--memory-limit", limit_text, "--json"]
    done = subprocess.run([*map(str, command), "--confirm", str(confirm)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["rows"]


def gib(count):
    return f"{count / (1 << 30):.2f}"


def table(rows, dense):
    lines = [
        "| | tokens | x dense | GiB planned | GiB measured | plan's error | in files, GiB | s a step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows:
        planned, measured = row.get("planned_bytes", 0), row["measured_bytes"]
        error = f"{100 * (planned / measured - 1):+.1f} %" if planned and measured else ""
        lines.append(
            f"| {name} | {row['tokens']:,} | {row['tokens'] / dense:.1f} | {gib(planned) if planned else ''} | "
            f"{gib(measured) if measured else 'dry run'} | {error} | {gib(row.get('file_bytes', 0))} | "
            f"{row['seconds']:.0f} |"
            if measured
            else f"| {name} | {row['tokens']:,} | {row['tokens'] / dense:.1f} | {gib(planned)} | dry run | | "
            f"{gib(row.get('file_bytes', 0))} | |"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=SIZES)
    parser.add_argument("--memory-limit", default="2GiB")
    parser.add_argument("--confirm", type=float, default=0, help="seconds that a real step may take; 0 = none")
    parser.add_argument("--write", type=pathlib.Path, help="folder for a page")
    arguments = parser.parse_args()
    text = arguments.memory_limit
    unit = next((unit for unit in UNITS if text.endswith(unit)), None)
    if unit is None:
        parser.error(f"expected --memory-limit as 512MiB or 2GiB, got {text}")
    limit = int(float(text.removesuffix(unit)) * UNITS[unit])
    ours = [(row["techniques"], row) for row in of_longfold(arguments.preset, text, arguments.confirm)]
    theirs = [
        (
            f"transformers{', checkpointing' if on else ''}",
            longest_of_transformers(arguments.preset, on, limit),
        )
        for on in (False, True)
    ]
    lines = table(ours + theirs, ours[0][1]["tokens"])
    print("\n".join(lines))
    if arguments.write is None:
        return
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = f"python bench/reach.py {arguments.preset} --memory-limit {text} --confirm {arguments.confirm:g}"
    page = arguments.write / f"reach-cpu-{arguments.preset}-{day}.md"
    page.write_text(
        f"# The longest sequence that fits in {text}\n\n`{command}`: {arguments.preset}, fp32, one sequence a step, "
        f"AdamW, on {platform.machine()}, {datetime.date.today().isoformat()}.\n\n" + "\n".join(lines) + "\n"
    )
    print(page)


if __name__ == "__main__":
    main()
