#!/usr/bin/env python3
"""A training step of longfold beside one of Hugging Face's transformers with torch's AdamW: the same model, tokens,
threads and dtype, in turn, on this machine's CPU.

    python bench/training_step.py --tokens 2048 --rounds 3

Prints seconds (median, least, most), tokens a second and the ratio, pair by pair; with --write also a page under
docs/results/. Needs `make build` and transformers (requirements.txt).
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = {"genslm-25m": dict(num_hidden_layers=8, hidden_size=512, num_attention_heads=8, intermediate_size=2048)}

TRANSFORMERS = """
import json, sys, time
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
sizes, tokens, steps, threads, attention, autocast = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(1)
config = GPTNeoXConfig(
    vocab_size=69, max_position_embeddings=tokens, use_parallel_residual=True, attn_implementation=attention,
    use_cache=False, **sizes)
model = GPTNeoXForCausalLM(config).float()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
ids = torch.randint(69, (1, tokens))
seconds = []
for step in range(steps + 1):
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()
    if step > 0:
        seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds}))
"""


def last_line(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"training_step: {command[0]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def longfold_step(preset, tokens, steps, threads):
    program = str(ROOT / "build/release/longfold")
    options = ["--preset", preset, "--tokens", tokens, "--steps", steps, "--threads", threads, "--json"]
    return last_line([program, "bench", "step", *map(str, options)])


def transformers_step(preset, tokens, steps, threads):
    arguments = json.dumps([SIZES[preset], tokens, steps, threads, "sdpa", False])
    return last_line([sys.executable, "-c", TRANSFORMERS, arguments])


def measured(preset, tokens, steps, rounds, threads):
    """Medians of each round, in turn: [(longfold, transformers), ...]."""
    pairs = []
    for _ in range(rounds):
        ours = statistics.median(longfold_step(preset, tokens, steps, threads)["seconds"])
        theirs = statistics.median(transformers_step(preset, tokens, steps, threads)["seconds"])
        pairs.append((ours, theirs))
    return pairs


def row(tokens, pairs):
    ours, theirs = zip(*pairs, strict=True)
    ratios = [their / our for our, their in pairs]

    def spread(values):
        return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"

    speed = tokens / statistics.median(ours)
    return f"| {tokens} | {spread(ours)} | {spread(theirs)} | {speed:.0f} | {spread(ratios)} |"


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="genslm-25m", choices=SIZES)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--steps", type=int, default=3, help="steps of a process, after one that does not count")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", metavar="FOLDER", help="write a page there as well")
    options = parser.parse_args()
    import torch
    import transformers

    info = subprocess.run([ROOT / "build/release/longfold", "info"], capture_output=True, text=True, check=True).stdout
    kernels = next(line for line in info.splitlines() if line.startswith("cpu")).split(None, 1)[1]
    lines = [
        "# A training step on the CPU, beside Hugging Face's transformers",
        "",
        f"`python bench/training_step.py {' '.join(sys.argv[1:])}`: {options.preset}, fp32, one sequence, AdamW, "
        f"clipping; {options.threads} threads. Processes in turn; of each the median step. {cpu_name()}, {kernels}; "
        f"torch {torch.__version__}, transformers {transformers.__version__} with SDPA.",
        "",
        "| tokens | longfold, s | transformers, s | longfold, tokens/s | times as fast |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for tokens in options.tokens:
        lines.append(row(tokens, measured(options.preset, tokens, options.steps, options.rounds, options.threads)))
        print(lines[-1], flush=True)
    if options.write:
        page = pathlib.Path(options.write) / f"training-step-cpu-{datetime.date.today()}.md"
        page.write_text("\n".join(lines) + "\n")
        print(f"wrote {page}")


if __name__ == "__main__":
    main()
