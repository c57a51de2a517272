#!/usr/bin/env python3
"""A training step of longfold beside one of Hugging Face's transformers with torch's AdamW: the same model, tokens,
threads and dtype, in turn, on this machine's CPU or GPU.

    python bench/training_step.py genslm-25m:2048 --rounds 3
    python bench/training_step.py --device cuda --dtype bf16 --peak-tflops 989 genslm-250m:8192 genslm-250m:65536

transformers in bf16 is autocast of an fp32 model on the CPU, and a model and AdamW in bf16 on a GPU, where longfold
keeps parameters and AdamW in fp32. On a GPU longfold runs twice: with bits that repeat, as it does unless told
otherwise, and adding in any order (compute.deterministic = false). Prints seconds (median, least, most), tokens a
second, the ratio pair by pair, the memory that tensors took on a GPU and, with --peak-tflops, the model FLOPs
utilisation: 6 FLOPs a parameter and token, 6 x layers x width x tokens for causal attention, nothing for what is
computed twice. With --write also a page under docs/results/, which ends with where the time of a step goes. Needs
`make build` and transformers (requirements.txt).
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

CONVENTION = (
    "The last column is the model FLOPs utilisation: 6 FLOPs a parameter and token, 6 x layers x width x tokens for "
    "causal attention, nothing for what is computed twice."
)

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
with torch.device(device):
    model = GPTNeoXForCausalLM(config)
model.to(torch.bfloat16 if dtype == "bf16" and not autocast else torch.float32)
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
peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
print(json.dumps({"seconds": seconds, "peak_bytes": peak}))
"""


def last_line(command):
    """What the command says, or nothing where the GPU's memory did not do."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    if "out of memory" not in done.stderr:
        sys.exit(f"training_step: {command[0]} failed:\n{done.stderr[-2000:]}")
    return None


def longfold_command(options, preset, tokens, *more):
    arguments = ["--preset", preset, "--tokens", tokens, "--steps", options.steps, "--threads", options.threads]
    arguments += ["--device", options.device, "--dtype", options.dtype, "--attention", options.attention, *more]
    return [str(ROOT / "build/release/longfold"), "bench", "step", *map(str, arguments)]


def transformers_step(options, preset, tokens):
    arguments = [SIZES[preset], tokens, options.steps, options.threads, options.device, options.dtype]
    return last_line([sys.executable, "-c", TRANSFORMERS, json.dumps(arguments)])


def contenders(options):
    ours = {"longfold": lambda *case: last_line(longfold_command(options, *case, "--json"))}
    if options.device == "cuda":
        ours["longfold, any order"] = lambda *case: last_line(longfold_command(options, *case, "--json", "--any-order"))
    return {**ours, "transformers": lambda *case: transformers_step(options, *case)}


def measured(options, preset, tokens):
    """{contender: [(seconds of the median step, bytes at most) of each round]}; empty where memory did not do."""
    found = {name: [] for name in contenders(options)}
    left_out = set()
    for _ in range(options.rounds):
        for name, step in contenders(options).items():
            if name in left_out:
                continue
            line = step(preset, tokens)
            if line is None:  # once is enough
                left_out.add(name)
            else:
                found[name].append((statistics.median(line["seconds"]), line["peak_bytes"]))
    return {name: runs if name not in left_out else [] for name, runs in found.items()}


def model_flops(preset, tokens):
    """Of one step over one sequence."""
    layers, width, _, ffn = SIZES[preset].values()
    parameters = layers * (4 * width * width + 2 * width * ffn) + 69 * width  # products of the token table are none
    return tokens * (6 * parameters + 6 * layers * width * tokens)


def spread(values):
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def rows(options, preset, tokens, found):
    peer = [seconds for seconds, _ in found["transformers"]]
    for name, runs in found.items():
        line = f"| {preset} | {tokens} | {name} |"
        if not runs:
            yield line + " out of memory |" + " |" * (2 + (options.device == "cuda") + (options.peak_tflops > 0))
            continue
        seconds = [one for one, _ in runs]
        line += f" {spread(seconds)} | {tokens / statistics.median(seconds):.0f} |"
        same = name == "transformers" or not peer
        line += " |" if same else f" {spread([their / our for our, their in zip(seconds, peer, strict=True)])} |"
        if options.device == "cuda":
            line += f" {runs[0][1] / 2**30:.1f} |"
        if options.peak_tflops > 0:
            flops = model_flops(preset, tokens) / (options.peak_tflops * 1e12)
            line += f" {100 * flops / statistics.median(seconds):.1f} % |"
        yield line


def profile(options, preset, tokens):
    more = ["--profile"] + (["--any-order"] if options.device == "cuda" else [])
    command = longfold_command(options, preset, tokens, *more)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shown = " ".join(["longfold", *command[1:]])
    return ["", f"`{shown}`:", "", "```", *said.rstrip().splitlines()[1:], "```"]


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


def case(text):
    preset, _, tokens = text.partition(":")
    if preset not in SIZES or not tokens.isdigit():
        raise argparse.ArgumentTypeError(f"expected PRESET:TOKENS with a preset of {', '.join(SIZES)}, got {text!r}")
    return preset, int(tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=case, nargs="*", metavar="PRESET:TOKENS", default=[("genslm-25m", 2048)])
    parser.add_argument("--steps", type=int, default=3, help="steps of a process, after one that does not count")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--attention", default="auto", help="longfold's compute.attention")
    parser.add_argument("--peak-tflops", type=float, default=0, help="of the device in this dtype: prints utilisation")
    parser.add_argument("--write", metavar="FOLDER", help="write a page there as well")
    options = parser.parse_args()
    import torch
    import transformers

    info = subprocess.run([ROOT / "build/release/longfold", "info"], capture_output=True, text=True, check=True).stdout
    kernels = next(line for line in info.splitlines() if line.startswith("cpu")).split(None, 1)[1]
    place = "a GPU" if options.device == "cuda" else "the CPU"
    lines = [
        f"# A training step on {place}, beside Hugging Face's transformers",
        "",
        f"`python bench/training_step.py {' '.join(sys.argv[1:])}`: {options.dtype}, one sequence, AdamW, clipping; "
        f"{options.threads} threads. Processes in turn, {options.rounds} of each; of each the median step. "
        f"{device_name(options.device)}, {kernels}; "
        f"torch {torch.__version__}, transformers {transformers.__version__} with SDPA."
        + (f" {CONVENTION}" if options.peak_tflops > 0 else ""),
        "",
        "| model | tokens | | s a step | tokens/s | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    if options.device == "cuda":
        lines[-2] += " GiB |"
        lines[-1] += "---|"
    if options.peak_tflops > 0:
        lines[-2] += f" of {options.peak_tflops:g} TFLOP/s |"
        lines[-1] += "---|"
    print("\n".join(lines), flush=True)
    fitting = []
    for preset, tokens in options.cases:
        runs = measured(options, preset, tokens)
        if all(runs[name] for name in runs if name != "transformers"):
            fitting.append((preset, tokens))
        found = list(rows(options, preset, tokens, runs))
        print("\n".join(found), flush=True)
        lines += found
    if options.write:
        lines += ["", "## Where the time of a step goes"]
        for preset, tokens in fitting:
            lines += profile(options, preset, tokens)
        page = (
            pathlib.Path(options.write) / f"training-step-{options.device}-{options.dtype}-{datetime.date.today()}.md"
        )
        page.write_text("\n".join(lines) + "\n")
        print(f"wrote {page}")


if __name__ == "__main__":
    main()
