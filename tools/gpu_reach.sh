#!/usr/bin/env bash
# How long a sequence one GPU trains on: what docs/results/reach-cuda-*.md is made of. Each step's JSON goes to
# ${OUT:-build/gpu}/reach.jsonl, where a second run adds to it; lines on standard output say what is under way.
#
#   tools/gpu_reach.sh [million] [two_million] [layers] [optimizer] [parameters] [files] [ladder]   all of these if none is named
#   tools/gpu_reach.sh billion                                                                       only if it is named
#
# Whatever the GPU has, torch's allocator may hold 79 GiB of it, an H100's memory.
# million, two_million: whole steps of GenSLM 250M at 1,048,576 tokens and of 25M at 2,097,152, some 400 s each, the first
# with 85 GiB of host memory. layers: two layers of a 1B model at 1,048,576 tokens and of 2.5B at 524,288. optimizer: what
# moments that wait and early updates bring 2.5B at 65,536. parameters: what streamed ones bring it, and 8B at 65,536, with 94 GiB of
# the host. files: 250M at 32,768 with all that waits in files. billion: the whole step of the 1B model, some 16 minutes and 96 GiB of
# the host. ladder: bench/reach.py for 250M, with transformers beside.
# LONGFOLD is the program (build/release/longfold), PYTHON an interpreter with torch and transformers.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-build/gpu}
LONGFOLD=${LONGFOLD:-build/release/longfold}
PYTHON=${PYTHON:-python3}
LIMIT=79GiB
mkdir -p "$OUT"
parts=${*:-million two_million layers optimizer parameters files ladder}
failed=0

wants() { [[ " $parts " == *" $1 "* ]]; }
# step NAME OPTIONS...: one step, the first of its process.
step() {
  local name=$1
  shift
  echo "$(date +%T) $name"
  if line=$("$LONGFOLD" bench step --device cuda --dtype bf16 --steps 1 --no-warm-up --memory-limit $LIMIT --json "$@"); then
    echo "{\"name\": \"$name\", \"options\": \"$*\", \"step\": $line}" >>"$OUT/reach.jsonl"
    "$PYTHON" - "$line" <<'END'
import json, sys
step = json.loads(sys.argv[1])
gib, seconds = 1 << 30, step["seconds"][0]
error = step["planned_bytes"] / step["peak_bytes"] - 1
print(f"    {seconds:.1f} s, {step['flops'] / seconds / 989e12:.1%} of 989 TFLOP/s, {step['peak_bytes'] / gib:.2f} GiB "
      f"({step['held_bytes'] / gib:.2f} held), plan {error:+.1%}, host {step['host_bytes'] / gib:.1f} GiB, loss {step['losses'][0]:.4f}")
END
  else
    failed=1
    echo "    FAILED"
  fi
}

tiled=(--any-order --memory.tiled_mlp true --memory.tiled_loss true)
on_host=(--memory.offload host --memory.chunked_attention device)
selective=(--memory.checkpoint selective "${on_host[@]}" "${tiled[@]}")
full=(--memory.checkpoint full --memory.offload host --memory.chunked_attention host "${tiled[@]}")

wants million && step 250M-1M --preset genslm-250m --tokens 1048576 "${selective[@]}"
wants two_million && step 25M-2M --preset genslm-25m --tokens 2097152 "${selective[@]}"
one_billion=(--preset genslm-250m --model.hidden_size 2048 --model.num_heads 16 --model.ffn_size 8192)
full_on_device=(--memory.checkpoint full "${on_host[@]}" "${tiled[@]}")
wants billion && step 1B-1M "${one_billion[@]}" --model.num_layers 24 --tokens 1048576 "${full_on_device[@]}"
if wants layers; then
  step 1B-1M-2-layers "${one_billion[@]}" --model.num_layers 2 --tokens 1048576 "${full[@]}"
  step 2.5B-512K-2-layers --preset genslm-2.5b --model.num_layers 2 --tokens 524288 "${full[@]}"
fi
if wants optimizer; then
  base=(--preset genslm-2.5b --tokens 65536 "${selective[@]}")
  step 2.5B-64K "${base[@]}"
  step 2.5B-64K-optimizer-on-host "${base[@]}" --memory.offload_optimizer host
  step 2.5B-64K-early-updates "${base[@]}" --memory.early_updates true
  step 2.5B-64K-both "${base[@]}" --memory.offload_optimizer host --memory.early_updates true
fi
if wants parameters; then
  all=(--memory.offload_optimizer host --memory.offload_parameters true --memory.early_updates true)
  step 2.5B-64K-parameters-on-host --preset genslm-2.5b --tokens 65536 "${selective[@]}" "${all[@]}"
  step 8B-64K --preset genslm-2.5b --model.family llama --model.num_layers 32 --model.hidden_size 4096 --model.num_heads 32 \
    --model.num_kv_heads 8 --model.ffn_size 14336 --tokens 65536 "${full_on_device[@]}" "${all[@]}"
fi
if wants files; then
  step 250M-32K-in-files --preset genslm-250m --tokens 32768 --memory.checkpoint full --memory.offload file \
    --memory.chunked_attention file "${tiled[@]}"
fi
if wants ladder; then
  "$PYTHON" bench/reach.py genslm-250m --memory-limit $LIMIT --device cuda --confirm 30 --longest 60 --write "$OUT" || failed=1
fi
exit $failed
