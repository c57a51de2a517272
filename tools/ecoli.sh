#!/usr/bin/env bash
# Brings the annotated genome of E. coli K-12 MG1655 (GenBank, NC_000913.2) from the Debian package cct-examples to
# build/data/. Does nothing if it is there already; what comes is checked.
set -euo pipefail
cd "$(dirname "$0")/.."
target=build/data/ecoli-k12.gbk.gz
checksum=f5ccb73d0c68da186481e842b5d7df2bdcbb99b9edbc30f8abc8927dd589d4d4
inside=./usr/share/doc/cct/examples/sample_projects/sample_project_3/comparison_genomes/NC_000913.gbk.gz

say() { printf 'data-ecoli: %s\n' "$*"; }
is_right() { [ -f "$1" ] && echo "$checksum  $1" | sha256sum --check --status; }

if is_right "$target"; then
  say "$target is there"
  exit 0
fi
for tool in apt-get dpkg-deb; do
  if ! command -v "$tool" >/dev/null; then
    say "needs $tool: take $(basename "$inside") (sha256 $checksum) from the Debian package cct-examples yourself and copy it to $target" >&2
    exit 2
  fi
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
say "downloading the Debian package cct-examples (42 MB)"
if ! (cd "$folder" && apt-get -qq download cct-examples) 2>"$folder/errors"; then
  say "apt-get cannot download cct-examples: $(tail -n 1 "$folder/errors") (sudo apt-get update may help)" >&2
  exit 1
fi
dpkg-deb --fsys-tarfile "$folder"/cct-examples_*.deb | tar -xO "$inside" >"$folder/genome.gbk.gz"
if ! is_right "$folder/genome.gbk.gz"; then
  say "expected sha256 $checksum of $(basename "$inside"), got $(sha256sum <"$folder/genome.gbk.gz" | cut -d' ' -f1)" >&2
  exit 1
fi
mkdir -p build/data
mv "$folder/genome.gbk.gz" "$target"
say "$target: E. coli K-12 MG1655, 4,639,675 bases, 4,254 coding sequences"
