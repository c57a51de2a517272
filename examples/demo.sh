#!/usr/bin/env bash
# What `make demo` shows: training on a whole genome in one piece, how long a sequence may be, training on genes and scoring
# others, then Evoformer attention on a real alignment. Arguments go to `longfold train`.
set -euo pipefail
cd "$(dirname "$0")/.."
longfold=build/release/longfold
run=build/runs/phage-lambda
genes=build/runs/ecoli-genes

echo "== 1. Phage lambda, 48,502 nucleotides, as codons (data/phage-lambda.fa.gz)"
$longfold prepare data/phage-lambda.fa.gz --output build/phage-lambda --tokenizer genslm69 --frame 0

echo
echo "== 2. Training on the whole genome in one piece (recipes/phage-lambda.toml)"
rm -rf "$run"
$longfold train recipes/phage-lambda.toml --train.output "$run" "$@"

echo
echo "== 3. The longest sequence that a training step of GenSLM 25M (2 of its 8 layers) takes in 256 MiB, technique by technique"
$longfold bench reach --preset genslm-25m --model.num_layers 2 --memory-limit 256MiB --step 256 \
  --memory.tile_tokens 256 --memory.chunk_tokens 1024 --confirm 4

echo
echo "== 4. Genes of E. coli, four fifths to train on (recipes/ecoli-genes.toml), a tenth that no choice has seen to score"
$longfold prepare data/ecoli-k12-genes.fa.gz --val 0.1 --test 0.1 -o build/ecoli-genes
rm -rf "$genes"
$longfold train recipes/ecoli-genes.toml --train.output "$genes" "$@"
$longfold eval "$genes" --data build/ecoli-genes-test

echo
echo "== 5. Evoformer MSA-row attention on the Pfam alignment SecY, forward and backward"
.venv/bin/python examples/evoformer_secy.py

cat <<'END'

Next:
  build/release/longfold inspect build/phage-lambda --offset 0 --count 12    what the model read
  build/release/longfold train --help                                        every option and its default
  make bench                                                                 Evoformer attention beside torch
  make bench-cuda                                                            the same on a GPU, beside what is installed
  docs/architecture.md                                                       how it works
END
