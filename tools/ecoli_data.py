#!/usr/bin/env python3
"""Makes data/ecoli-k12-genes.fa.gz and data/ecoli-k12-excerpt.gbk.gz from the genome that `make data-ecoli` brings.

The genes are what `longfold prepare --take cds` takes, the excerpt is the first 60,000 bases with the coding sequences
that lie within them.
"""

import argparse
import gzip
import json
import pathlib
import re
import struct
import subprocess
import tempfile

EXCERPT = 60_000
KEPT = "gene locus_tag codon_start transl_table protein_id translation".split()


def pack(path: pathlib.Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def genes(longfold: str, genome: pathlib.Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        prefix = pathlib.Path(folder) / "genes"
        subprocess.run([longfold, "prepare", genome, "--take", "cds", "-o", prefix], check=True, capture_output=True)
        says = json.loads(prefix.with_suffix(".json").read_text())
        index, tokens = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    (count,) = struct.unpack_from("<Q", index, 18)
    codons, at, text = says["tokenizer"]["vocabulary"], 0, []
    for entry, length in zip(says["sequences"], struct.unpack_from(f"<{count}i", index, 34), strict=True):
        bases = "".join(codons[i] for i in struct.unpack_from(f"<{length}H", tokens, at))
        text.append(f">{entry['name']} {entry['protein_id']} {entry['record']}:{entry['location']}\n{bases}\n")
        at += 2 * length
    return "".join(text)


def excerpt(lines: list[str]) -> str:
    features, origin = lines.index("FEATURES             Location/Qualifiers"), lines.index("ORIGIN      ")
    kept, taken = [], False
    for line in lines[features + 1 : origin]:
        if line[5:6] != " ":  # a feature begins
            places = [int(number) for number in re.findall(r"\d+", line[21:])]
            taken = line.split()[0] == "CDS" and max(places) <= EXCERPT
            keep = taken
        elif line.startswith(" " * 21 + "/"):
            keep = taken and re.match(r" +/(\w+)", line)[1] in KEPT
        if keep:
            kept.append(line)
    sequence = lines[origin : origin + 1 + EXCERPT // 60]
    head = [lines[0].replace("4639675 bp", f"{EXCERPT:7d} bp").replace("circular", "linear  "), *lines[1:9]]
    head[1] = head[1].replace("complete genome", f"bases 1 to {EXCERPT} of the genome")
    return "\n".join([*head, lines[features], *kept, *sequence, "//", ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("genome", type=pathlib.Path)
    parser.add_argument("--longfold", default="build/release/longfold")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("data"))
    arguments = parser.parse_args()
    pack(arguments.output / "ecoli-k12-genes.fa.gz", genes(arguments.longfold, arguments.genome))
    pack(
        arguments.output / "ecoli-k12-excerpt.gbk.gz",
        excerpt(gzip.decompress(arguments.genome.read_bytes()).decode().split("\n")),
    )
