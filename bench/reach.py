#!/usr/bin/env python3
"""The longest sequence whose training step fits in a limit of the device's memory: longfold's techniques one by one,
and Hugging Face's transformers with and without its gradient checkpointing.

    python bench/reach.py genslm-25m --memory-limit 2GiB --confirm 600
    python bench/reach.py genslm-250m --memory-limit 79GiB --confirm 60 --device cuda

On the CPU in fp32, on a GPU in bf16 with fp32 parameters (transformers: autocast). longfold's lengths come from dry
runs (`longfold bench reach`); with --confirm a real step of each that may take no longer than so many seconds shows
what it took. transformers has no dry run: its peak is measured by the same counter at two lengths, then at the length
at which the straight line through the last two meets the limit, until a step takes at most the limit and at least
0.97 of it; lengths whose step would take longer than --longest are not tried. With --write also a page and a picture
in that folder. Needs `make build` and transformers (requirements.txt).
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
from comparison import bars  # noqa: E402
from training_step import SIZES  # noqa: E402

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

TRANSFORMERS = """
import json, sys, time
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
sizes, tokens, checkpointing, device = json.loads(sys.argv[1])
on_gpu = device == "cuda"
if not on_gpu:
    from longfold.memory import MemoryMeter
    MemoryMeter()
config = GPTNeoXConfig(
    vocab_size=69, max_position_embeddings=tokens, use_parallel_residual=True, attn_implementation="sdpa",
    use_cache=False, **sizes)
model = GPTNeoXForCausalLM(config).to(device)
model.train()
if checkpointing:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
for parameter in model.parameters():  # its moments, as they are from the second step on
    optimizer.state[parameter] = {
        "step": torch.tensor(1.0, device=device), "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter)}
ids = torch.randint(69, (1, tokens), device=device)
torch.cuda.reset_peak_memory_stats() if on_gpu else torch.ops.longfold.memory_reset_peak()
start = time.perf_counter()
with torch.autocast(device, torch.bfloat16, enabled=on_gpu):
    loss = model(ids, labels=ids).loss
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
if on_gpu:
    torch.cuda.synchronize()
seconds = time.perf_counter() - start
peak = torch.cuda.max_memory_allocated() if on_gpu else torch.ops.longfold.memory_peak()
print(json.dumps({"bytes": peak, "seconds": seconds}))
"""


def of_transformers(preset, tokens, checkpointing, device):
    arguments = json.dumps([SIZES[preset], tokens, checkpointing, device])
    done = subprocess.run([sys.executable, "-c", TRANSFORMERS, arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"transformers at {tokens} tokens: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def longest_of_transformers(preset, checkpointing, limit, device, longest_seconds):
    """By secants; the last step measured fits. Where one would take too long, the straight line's length."""
    first = 16384 if device == "cuda" else 1024
    points = [(tokens, of_transformers(preset, tokens, checkpointing, device)) for tokens in (first, 2 * first)]
    while not 0.97 * limit <= points[-1][1]["bytes"] <= limit:
        (near, a), (far, b) = points[-2:]
        slope = (b["bytes"] - a["bytes"]) / (far - near)
        tokens = int((0.985 * limit - b["bytes"]) / slope + far) // 64 * 64
        if b["seconds"] * (tokens / far) ** 2 > longest_seconds:
            return {"tokens": tokens, "measured_bytes": 0, "seconds": 0}
        points.append((tokens, of_transformers(preset, tokens, checkpointing, device)))
    tokens, step = points[-1]
    return {"tokens": tokens, "measured_bytes": step["bytes"], "seconds": step["seconds"]}


def of_longfold(arguments):
    program = ROOT / "build" / "release" / "longfold"
    command = [program, "bench", "reach", "--preset", arguments.preset, "--memory-limit", arguments.memory_limit]
    command += ["--confirm", arguments.confirm, "--json"]
    if arguments.device == "cuda":
        command += ["--compute.device", "cuda", "--compute.dtype", "bf16", "--step", 1024]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["rows"]


def gib(count):
    return f"{count / (1 << 30):.2f}"


def cells(name, row, dense):
    """Of one row of the table."""
    planned, measured = row.get("planned_bytes", 0), row["measured_bytes"]
    places = (("host_bytes", "host"), ("file_bytes", "file"))
    waits = [f"{gib(row[key])} {where}" for key, where in places if row.get(key)]
    how = gib(measured) if measured else "dry run" if planned else "not tried"
    return [
        name,
        f"{row['tokens']:,}",
        f"{row['tokens'] / dense:.1f}",
        gib(planned) if planned else "",
        how,
        f"{100 * (planned / measured - 1):+.1f} %" if planned and measured else "",
        ", ".join(waits),
        f"{row['seconds']:.1f}" if measured else "",
    ]


def table(rows, dense):
    head = ["", "tokens", "x dense", "GiB planned", "GiB measured", "plan's error", "GiB elsewhere", "s a step"]
    lines = [head, ["---"] * len(head), *(cells(name, row, dense) for name, row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def picture(title, ours, theirs):
    dense = ours[0][1]["tokens"]

    def bar(name, row, color):
        note = f"{row['tokens']:,} ({row['tokens'] / dense:.1f}x)"
        return bars.Bar(name, row["tokens"], note, color, hollow=not row["measured_bytes"])

    all_bars = [bar(name, row, bars.OURS) for name, row in ours] + [bar(name, row, bars.THEIRS) for name, row in theirs]
    return bars.draw(title, "tokens", all_bars)


def what_computes(device):
    if device == "cpu":
        return f"fp32 on {platform.machine()}"
    import torch

    return f"bf16 on one {torch.cuda.get_device_name()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=SIZES)
    parser.add_argument("--memory-limit", default="2GiB")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--confirm", type=float, default=0, help="seconds that a real step may take; 0 = none")
    parser.add_argument("--longest", type=float, default=600, help="the same for transformers, which needs real steps")
    parser.add_argument("--write", type=pathlib.Path, help="folder for a page and a picture")
    arguments = parser.parse_args()
    text = arguments.memory_limit
    unit = next((unit for unit in UNITS if text.endswith(unit)), None)
    if unit is None:
        parser.error(f"expected --memory-limit as 512MiB or 2GiB, got {text}")
    limit = int(float(text.removesuffix(unit)) * UNITS[unit])
    ours = [(row["techniques"], row) for row in of_longfold(arguments)]
    theirs = [
        (
            f"transformers{', checkpointing' if on else ''}",
            longest_of_transformers(arguments.preset, on, limit, arguments.device, arguments.longest),
        )
        for on in (False, True)
    ]
    lines = table(ours + theirs, ours[0][1]["tokens"])
    print("\n".join(lines))
    if arguments.write is None:
        return
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    name = f"reach-{arguments.device}-{arguments.preset}-{day}"
    where = what_computes(arguments.device)
    command = " ".join(["python bench/reach.py", *sys.argv[1:]])
    (arguments.write / f"{name}.svg").write_text(
        picture(f"{arguments.preset}: longest sequence in {text}, {where}", ours, theirs)
    )
    (arguments.write / f"{name}.md").write_text(
        f"# The longest sequence that fits in {text}\n\n`{command}`: {arguments.preset}, {where}, one sequence a step, "
        f"AdamW, {day}.\n\n![tokens]({name}.svg)\n\nA hollow bar is a plan, a full one a step that was taken.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    print(arguments.write / f"{name}.md")


if __name__ == "__main__":
    main()
