"""longfold prepare on GenBank and GFF3: coding sequences, splits, the recipes for E. coli."""

import gzip
import json
import pathlib
import re
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXCERPT = ROOT / "data" / "ecoli-k12-excerpt.gbk.gz"
GENES = ROOT / "data" / "ecoli-k12-genes.fa.gz"


def sequences(prefix):
    """{name: bases}, from the three files."""
    says = json.loads(prefix.with_name(prefix.name + ".json").read_text())
    index, tokens = (prefix.with_name(prefix.name + ending).read_bytes() for ending in (".idx", ".bin"))
    (count,) = struct.unpack_from("<Q", index, 18)
    found, at = {}, 0
    for entry, length in zip(says["sequences"], struct.unpack_from(f"<{count}i", index, 34), strict=True):
        ids = struct.unpack_from(f"<{length}H", tokens, at)
        found[entry["name"]] = "".join(says["tokenizer"]["vocabulary"][i] for i in ids)
        at += 2 * length
    return found


def fasta(path):
    records = {}
    for line in gzip.open(path, "rt"):
        if line.startswith(">"):
            name = line[1:].split()[0]
            records[name] = ""
        else:
            records[name] += line.strip()
    return records


def test_coding_sequences_of_an_excerpt(longfold, tmp_path):
    done = longfold("prepare", EXCERPT, "--take", "cds", "-o", tmp_path / "x")
    assert done.code == 0 and done.stderr == ""
    assert (
        "  coding                  58  coding sequences (CDS) found; left out: 0 (pseudo 0, partial 0, " in done.stdout
    )
    genes = fasta(GENES)
    assert len(genes) == 4242
    found = sequences(tmp_path / "x")
    assert len(found) == 58 and all(genes[name] == bases for name, bases in found.items())
    shown = longfold("inspect", tmp_path / "x").stdout
    assert "sequence 1: b0002 (NC_000913.2 337..2799), frame 0, 821 tokens" in shown
    assert "taken      58 of 58 coding sequences; left out: pseudo 0, partial 0, broken 0, remote 0" in shown


def test_what_is_left_out_is_listed(longfold, tmp_path):
    text = gzip.decompress(EXCERPT.read_bytes()).decode()
    for before, after in [
        ("CDS             190..255", "CDS             <190..255"),
        ("CDS             337..2799", "CDS             337..2798"),
        ("CDS             2801..3733", "CDS             join(2801..3733,J00194.1:1..9)"),
        ("CDS             3734..5020", "CDS             3734..5020\n                     /pseudo"),
    ]:
        assert before in text
        text = text.replace(before, after)
    done = longfold("prepare", "-", "--take", "cds", "-o", tmp_path / "x", stdin=text.encode())
    assert done.code == 0
    assert "left out: 4 (pseudo 1, partial 1, broken 1, remote 1)" in done.stdout
    lines = [line.split(maxsplit=2)[2] for line in done.stdout.splitlines() if line.startswith("    left out")]
    assert lines == [
        "b0001, NC_000913.2 <190..255: partial, an end of it is not in the record",
        "b0002, NC_000913.2 337..2798: broken, 2462 bases are no whole number of codons",
        "b0003, NC_000913.2 join(2801..3733,J00194.1:1..9): remote, a part of it is in another record",
        "b0004, NC_000913.2 3734..5020: pseudo, its gene makes no protein",
    ]
    says = json.loads((tmp_path / "x.json").read_text())
    assert [one["kind"] for one in says["left_out"]] == ["partial", "broken", "remote", "pseudo"]
    assert says["taking"]["coding"] == 58 and says["counts"]["records"] == 54


def as_gff(path) -> tuple[str, str]:
    """The annotation of a GenBank record whose coding sequences are in one part each, and its FASTA."""
    text = gzip.decompress(path.read_bytes()).decode()
    rows = ["##gff-version 3"]
    for back, first, last, tag in re.findall(
        r'^     CDS +(complement\()?(\d+)\.\.(\d+)\)?\n(?: +/gene=.*\n)? +/locus_tag="(\w+)"', text, re.MULTILINE
    ):
        rows.append(f"chr\t.\tCDS\t{first}\t{last}\t.\t{'-' if back else '+'}\t0\tID=cds-{tag};locus_tag={tag}")
    bases = re.sub(r"[^acgt]", "", text[text.index("ORIGIN") + 6 :])
    return "\n".join(rows) + "\n", f">chr\n{bases}\n"


def test_gff_gives_what_genbank_gives(longfold, tmp_path):
    annotation, genome = as_gff(EXCERPT)
    (tmp_path / "x.gff3").write_text(annotation)
    (tmp_path / "x.fna.gz").write_bytes(gzip.compress(genome.encode()))
    assert longfold("prepare", EXCERPT, "--take", "cds", "-o", tmp_path / "genbank").code == 0
    done = longfold("prepare", tmp_path / "x.gff3", tmp_path / "x.fna.gz", "--take", "cds", "-o", tmp_path / "beside")
    assert done.code == 0, done.stderr
    joined = (annotation + "##FASTA\n" + genome).encode()
    assert longfold("prepare", "-", "--take", "cds", "-o", tmp_path / "inside", stdin=joined).code == 0
    tokens = (tmp_path / "genbank.bin").read_bytes()
    assert len(tokens) > 2 * 17000
    assert (tmp_path / "beside.bin").read_bytes() == tokens and (tmp_path / "inside.bin").read_bytes() == tokens
    done = longfold("prepare", tmp_path / "x.gff3", "-o", tmp_path / "none")
    assert "has no sequences (no ##FASTA part)" in done.one_line_error(2)
    done = longfold("prepare", tmp_path / "x.fna.gz", "--take", "cds", "-o", tmp_path / "none")
    assert "has no coding sequences" in done.one_line_error(2)


def test_a_split_shares_nothing(longfold, tmp_path):
    again = tmp_path / "again.fa"
    again.write_text(">twin\n" + fasta(GENES)["b0002"] + "\n")
    arguments = ["--val", 0.1, "--test", 0.1, "-o", tmp_path / "x"]
    done = longfold("prepare", GENES, again, *arguments)
    assert done.code == 0, done.stderr
    names = {}
    for part in ("train", "val", "test"):
        says = json.loads((tmp_path / f"x-{part}.json").read_text())
        names[part] = {entry["name"] for entry in says["sequences"]}
        assert says["taking"]["part"] == part
    duplicates = says["taking"]["duplicates"]
    assert re.search(rf"^  duplicates +{duplicates}  left out", done.stdout, re.MULTILINE)
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 4243 - duplicates
    assert "twin" not in set().union(*names.values())
    assert 350 < len(names["val"]) < 500 and 350 < len(names["test"]) < 500
    genes = fasta(GENES)
    bases = [{genes[name] for name in names[part]} for part in names]
    assert not (bases[0] & bases[1] or bases[0] & bases[2] or bases[1] & bases[2])
    before = (tmp_path / "x-test.bin").read_bytes()
    assert longfold("prepare", GENES, *arguments).code == 0
    assert (tmp_path / "x-test.bin").read_bytes() == before
    assert longfold("prepare", GENES, *arguments, "--split-seed", 1).code == 0
    assert (tmp_path / "x-test.bin").read_bytes() != before
    assert "part       test of a split by record" in longfold("inspect", tmp_path / "x-test").stdout


def commands(recipe):
    """What the head of a recipe says to type, but for what needs a network."""
    text = re.sub(r" \\\n#\s+", " ", (ROOT / "recipes" / recipe).read_text())
    return [line[2:].strip() for line in text.splitlines() if re.match(r"#   (longfold|make)", line)]


@pytest.mark.parametrize("recipe", ["ecoli-genes.toml", "ecoli-genome.toml"])
def test_recipes_train_as_their_heads_say(program, tmp_path, recipe):
    (tmp_path / "build" / "data").mkdir(parents=True)
    (tmp_path / "build" / "data" / "ecoli-k12.gbk.gz").write_bytes(EXCERPT.read_bytes())  # `make data-ecoli`, shortened
    for name in ("data", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    small = "--train.steps 2 --optimizer.warmup_steps 1 --data.sequence_length 128 --data.batch_size 2"
    ran = 0
    for line in commands(recipe):
        if line.startswith("make") or (recipe == "ecoli-genes.toml" and "--take cds" in line):
            continue
        words = [str(program), *line.split()[1:], *(small.split() if " train " in line else [])]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        ran += 1
    assert ran == 2
    assert "step 2/2" in done.stderr


def test_data_ecoli_says_what_it_needs(tmp_path):
    """Without apt-get: one line that names the file, its checksum and the place."""
    (tmp_path / "tools").mkdir()
    script = tmp_path / "tools" / "ecoli.sh"
    script.write_bytes((ROOT / "tools" / "ecoli.sh").read_bytes())
    for name in ("dirname", "basename", "sha256sum", "bash"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["/usr/bin/bash", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    for words in ("needs apt-get", "cct-examples", "NC_000913.gbk.gz", "f5ccb73d", "build/data/ecoli-k12.gbk.gz"):
        assert words in done.stderr
