#!/usr/bin/env python3
"""A training step of longfold beside one of Hugging Face's transformers with torch's AdamW: the same model, tokens,
threads and dtype, in turn, on this machine's CPU or GPU.

    python bench/training_step.py --tokens 2048 --rounds 3
    python bench/training_step.py --device cuda --dtype bf16 --preset genslm-250m --tokens 8192 65536 --peak-tflops 989

transformers in bf16 is autocast of an fp32 model on the CPU, and a model and AdamW in bf16 on a GPU. Prints seconds
(median, least, most), tokens a second, the ratio pair by pair and, with --peak-tflops, the model FLOPs utilisation: 6
FLOPs a parameter and token, 6 x layers x width x tokens for causal attention, nothing for what is computed twice. With
--write also a page under docs/results/. Needs `make build` and transformers (requirements.txt).
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
KEYS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
SIZES = {
    name: dict(zip(KEYS, sizes, strict=True))
    for name, sizes in {
        "genslm-25m": (8, 512, 8, 2048),
        "genslm-250m": (12, 1792, 16, 2048),
        "genslm-2.5b": (28, 3840, 32, 4096),
    }.items()
}

TRANSFORMERS = """
import json, sys, time
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
sizes, tokens, steps, threads, device, dtype = json.loads(sys.argv[1])
torch.set_num_threads(threads)
torch.manual_seed(1)
config = GPTNeoXConfig(
    vocab_size=69, max_position_embeddings=tokens, use_parallel_residual=True, attn_implementation="sdpa",
    use_cache=False, **sizes)
autocast = dtype == "bf16" and device == "cpu"
model = GPTNeoXForCausalLM(config).to(device, torch.bfloat16 if dtype == "bf16" and not autocast else torch.float32)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
ids = torch.randint(69, (1, tokens), device=device)
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
    if device == "cuda":
        torch.cuda.synchronize()
    if step > 0:
        seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds}))
"""


def last_line(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"training_step: {command[0]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def longfold_step(options, tokens):
    program = str(ROOT / "build/release/longfold")
    arguments = ["--preset", options.preset, "--tokens", tokens, "--steps", options.steps, "--threads", options.threads]
    arguments += ["--device", options.device, "--dtype", options.dtype, "--attention", options.attention, "--json"]
    if options.any_order:
        arguments.append("--any-order")
    return last_line([program, "bench", "step", *map(str, arguments)])


def transformers_step(options, tokens):
    arguments = [SIZES[options.preset], tokens, options.steps, options.threads, options.device, options.dtype]
    return last_line([sys.executable, "-c", TRANSFORMERS, json.dumps(arguments)])


def measured(options, tokens):
    """Medians of each round, in turn: [(longfold, transformers), ...]."""
    pairs = []
    for _ in range(options.rounds):
        ours = statistics.median(longfold_step(options, tokens)["seconds"])
        theirs = statistics.median(transformers_step(options, tokens)["seconds"])
        pairs.append((ours, theirs))
    return pairs


def model_flops(preset, tokens):
    """Of one step over one sequence."""
    layers, width, _, ffn = SIZES[preset].values()
    parameters = layers * (4 * width * width + 2 * width * ffn) + 69 * width  # products of the token table are none
    return tokens * (6 * parameters + 6 * layers * width * tokens)


def row(options, tokens, pairs):
    ours, theirs = zip(*pairs, strict=True)
    ratios = [their / our for our, their in pairs]

    def spread(values):
        return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"

    speed = tokens / statistics.median(ours)
    line = f"| {tokens} | {spread(ours)} | {spread(theirs)} | {speed:.0f} | {spread(ratios)} |"
    if options.peak_tflops > 0:
        flops = model_flops(options.preset, tokens) / (options.peak_tflops * 1e12)
        line += "".join(f" {100 * flops / statistics.median(seconds):.1f} % |" for seconds in (ours, theirs))
    return line


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def device_name(device):
    if device == "cpu":
        return cpu_name()
    import torch

    return torch.cuda.get_device_name(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="genslm-25m", choices=SIZES)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--steps", type=int, default=3, help="steps of a process, after one that does not count")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--attention", default="auto", help="longfold's compute.attention")
    parser.add_argument("--any-order", action="store_true", help="longfold's compute.deterministic = false")
    parser.add_argument("--peak-tflops", type=float, default=0, help="of the device in this dtype: prints utilisation")
    parser.add_argument("--write", metavar="FOLDER", help="write a page there as well")
    options = parser.parse_args()
    import torch
    import transformers

    info = subprocess.run([ROOT / "build/release/longfold", "info"], capture_output=True, text=True, check=True).stdout
    kernels = next(line for line in info.splitlines() if line.startswith("cpu")).split(None, 1)[1]
    lines = [
        f"# A training step on the {options.device.upper()}, beside Hugging Face's transformers",
        "",
        f"`python bench/training_step.py {' '.join(sys.argv[1:])}`: {options.preset}, {options.dtype}, one sequence, "
        f"AdamW, clipping; {options.threads} threads. Processes in turn; of each the median step. "
        f"{device_name(options.device)}, {kernels}; "
        f"torch {torch.__version__}, transformers {transformers.__version__} with SDPA.",
        "",
        "| tokens | longfold, s | transformers, s | longfold, tokens/s | times as fast |",
        "|---|---|---|---|---|",
    ]
    if options.peak_tflops > 0:
        lines[-2] += f" utilisation of {options.peak_tflops:g} TFLOP/s | of transformers |"
        lines[-1] += "---|---|"
    print("\n".join(lines), flush=True)
    for tokens in options.tokens:
        lines.append(row(options, tokens, measured(options, tokens)))
        print(lines[-1], flush=True)
    if options.write:
        page = (
            pathlib.Path(options.write) / f"training-step-{options.device}-{options.dtype}-{datetime.date.today()}.md"
        )
        page.write_text("\n".join(lines) + "\n")
        print(f"wrote {page}")


if __name__ == "__main__":
    main()
