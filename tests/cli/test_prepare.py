"""longfold prepare and longfold inspect, from the outside."""

import gzip
import json
import os
import re
import signal
import struct
import subprocess
import time

import numpy as np
import pytest


def rows(stdout: str) -> dict[str, int]:
    """The table that prepare prints."""
    return {m[1]: int(m[2].replace(",", "")) for m in re.finditer(r"^  (\w+) +([\d,]+)  ", stdout, re.MULTILINE)}


def genome(path) -> str:
    with gzip.open(path, "rt") as file:
        return "".join(line.strip() for line in file if not line.startswith(">"))


def decoded(stdout: str) -> str:
    return re.search(r"^  text  (.*)$", stdout, re.MULTILINE)[1]


def test_prepares_phage_lambda(longfold, phage_lambda, tmp_path):
    done = longfold("prepare", phage_lambda, "--output", tmp_path / "new" / "lambda")
    assert done.code == 0 and done.stderr == ""
    assert rows(done.stdout) == {
        "records": 1,
        "bases": 48502,
        "tokens": 16167,
        "ambiguous": 0,
        "skipped": 0,
        "truncated": 1,
    }
    assert sorted(os.listdir(tmp_path / "new")) == ["lambda.bin", "lambda.idx", "lambda.json"]


@pytest.mark.parametrize(("tokenizer", "letters"), [("genslm69", 3), ("nucleotide", 1)])
def test_inspect_decodes_the_genome_back(longfold, phage_lambda, tmp_path, tokenizer, letters):
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "x", "--tokenizer", tokenizer).code == 0
    bases = genome(phage_lambda)
    whole = longfold("inspect", tmp_path / "x", "--count", len(bases) // letters)
    assert decoded(whole.stdout) == bases[: len(bases) // letters * letters]
    part = longfold("inspect", tmp_path / "x", "--sequence", 0, "--offset", 1000, "--count", 5)
    assert decoded(part.stdout) == bases[1000 * letters : 1005 * letters]
    assert tokenizer in part.stdout and "gi|9626243|ref|NC_001416.1|" in part.stdout


def read_megatron(prefix):
    """Reads the pair as megatron.core.datasets.indexed_dataset does, from its published layout."""
    raw = prefix.with_suffix(".idx").read_bytes()
    assert raw[:9] == b"MMIDIDX\x00\x00"
    (version, code, sequences, documents) = struct.unpack_from("<QBQQ", raw, 9)
    assert version == 1
    dtype = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64, 7: np.float32, 8: np.uint16}
    lengths = np.frombuffer(raw, np.int32, sequences, 34)
    pointers = np.frombuffer(raw, np.int64, sequences, 34 + lengths.nbytes)
    starts = np.frombuffer(raw, np.int64, documents, 34 + lengths.nbytes + pointers.nbytes)
    assert len(raw) == 34 + lengths.nbytes + pointers.nbytes + starts.nbytes
    assert lengths.shape[0] == pointers.shape[0] == starts[-1]
    tokens = prefix.with_suffix(".bin").read_bytes()
    return [np.frombuffer(tokens, dtype[code], n, at) for n, at in zip(lengths, pointers, strict=True)]


def test_megatron_reads_the_files(longfold, phage_lambda, tmp_path):
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "x", "--frame", "all").code == 0
    vocabulary = json.loads((tmp_path / "x.json").read_text())["tokenizer"]["vocabulary"]
    sequences = read_megatron(tmp_path / "x")
    bases = genome(phage_lambda)
    assert len(sequences) == 3
    for frame, tokens in enumerate(sequences):
        text = "".join(vocabulary[i] for i in tokens)
        assert text == bases[frame : frame + len(text)] and len(bases) - frame - len(text) < 3


def test_standard_input_plain_and_gzip(longfold, phage_lambda, tmp_path):
    packed = phage_lambda.read_bytes()
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "file").code == 0
    assert longfold("prepare", "-", "-o", tmp_path / "gzip", stdin=packed).code == 0
    messy = gzip.decompress(packed).lower().replace(b"t", b"u").replace(b"\n", b"\r\n\r\n")
    assert longfold("prepare", "-", "-o", tmp_path / "messy", stdin=messy).code == 0
    assert (tmp_path / "gzip.bin").read_bytes() == (tmp_path / "file.bin").read_bytes()
    assert (tmp_path / "messy.bin").read_bytes() == (tmp_path / "file.bin").read_bytes()


def test_counts_of_a_small_file(longfold, tmp_path):
    (tmp_path / "x.fa").write_text(">a\nACGNNA\nTT\n>b\n>c\nAC\n")
    done = longfold("prepare", tmp_path / "x.fa", "-o", tmp_path / "x")
    assert rows(done.stdout) == {"records": 3, "bases": 10, "tokens": 2, "ambiguous": 2, "skipped": 2, "truncated": 4}
    assert decoded(longfold("inspect", tmp_path / "x").stdout) == "ACG[UNK]"


BAD_INPUTS = {
    "empty": (b"", "'{path}' is empty: expected FASTA records"),
    "genbank": (b"LOCUS x\n", "'{path}' is not FASTA: expected '>' at line 1, got 'L'"),
    "protein": (
        b">a\nACG\n>p\nMKL\n",
        "{path}:4:3: record 'p': expected a nucleotide (A C G T U or an IUPAC ambiguity code), got 'L'",
    ),
    "gap": (
        b">a\nAC-G\n",
        "{path}:2:3: record 'a': expected a nucleotide (A C G T U or an IUPAC ambiguity code), got '-'",
    ),
    "truncated": (
        gzip.compress(b">a\n" + b"ACGT" * 9 + b"\n")[:-3],
        "cannot read '{path}': the compressed file is truncated",
    ),
    "too short": (
        b">a\nAC\n",
        "no record is long enough for a token: expected at least 3 bases, got 2 bases in 1 records",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input(longfold, tmp_path, name):
    content, message = BAD_INPUTS[name]
    path = tmp_path / "x.fa"
    path.write_bytes(content)
    done = longfold("prepare", path, "-o", tmp_path / "x")
    assert done.one_line_error(2) == message.format(path=path)
    assert done.stdout == "" and os.listdir(tmp_path) == ["x.fa"]


def test_missing_file(longfold, tmp_path):
    done = longfold("prepare", tmp_path / "none.fa", "-o", tmp_path / "x")
    assert done.one_line_error(2) == f"cannot read '{tmp_path}/none.fa': No such file or directory"
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_no_new_folder(longfold, tmp_path):
    done = longfold("prepare", tmp_path / "none.fa", "-o", tmp_path / "new" / "x")
    assert done.one_line_error(2) == f"cannot read '{tmp_path}/none.fa': No such file or directory"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("output", ["", "folder/"])
def test_an_output_without_a_name(longfold, phage_lambda, tmp_path, output):
    done = longfold("prepare", phage_lambda, "-o", output, cwd=tmp_path)
    assert done.one_line_error(2) == f"expected the output to be a prefix such as folder/name, got '{output}'"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [2, 3, 5, 17])
def test_a_gzip_file_cut_in_its_header(longfold, phage_lambda, tmp_path, size):
    done = longfold("prepare", "-", "-o", tmp_path / "x", stdin=phage_lambda.read_bytes()[:size])
    assert done.one_line_error(2) == "cannot read standard input: the compressed file is truncated"


def test_bad_options(longfold, phage_lambda, tmp_path):
    def error(*arguments):
        return longfold("prepare", phage_lambda, "-o", tmp_path / "x", *arguments).one_line_error(2)

    assert error("--tokenizer", "genslm").startswith("unknown tokenizer 'genslm', did you mean 'genslm69'?")
    assert error("--frame", "4") == "expected frame 0, 1, 2 or all, got '4'"
    assert "expected frame 0 for tokenizer 'nucleotide'" in error("--tokenizer", "nucleotide", "--frame", "1")
    assert "--tokeniser" in error("--tokeniser", "genslm69")
    assert "--output" in longfold("prepare", phage_lambda).one_line_error(2)
    assert os.listdir(tmp_path) == []


def test_unwritable_folder(longfold, phage_lambda, tmp_path):
    (tmp_path / "file").write_text("")
    done = longfold("prepare", phage_lambda, "-o", tmp_path / "file" / "x")
    assert done.one_line_error(2) == f"cannot create folder '{tmp_path}/file': Not a directory"
    assert (
        longfold("prepare", phage_lambda, "-o", "/proc/x").one_line_error(2).startswith("cannot write '/proc/x.bin': ")
    )


@pytest.mark.parametrize("arguments", [(), ("--frame", "all")])
def test_full_disk(longfold, phage_lambda, tmp_path, arguments):
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "x").code == 0
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    done = longfold("prepare", phage_lambda, "-o", tmp_path / "x", *arguments, file_limit=20000)
    assert re.fullmatch(r"cannot write .*: File too large", done.one_line_error(1))
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_failure_keeps_the_old_data_set(longfold, phage_lambda, tmp_path):
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "x").code == 0
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    done = longfold("prepare", phage_lambda, "-", "-o", tmp_path / "x", stdin=b">a\nAC!\n")
    assert done.one_line_error(2).startswith("standard input:2:3: record 'a'")
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_interrupt_leaves_nothing(program, tmp_path):
    run = subprocess.Popen(
        [program, "prepare", "-", "-o", tmp_path / "x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not os.listdir(tmp_path) and run.poll() is None:  # it has begun when its temporary files are there
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate(b">a\nACG\n", timeout=60)
    assert (run.returncode, stdout, stderr) == (1, b"", b"longfold: interrupted: nothing was written\n")
    assert os.listdir(tmp_path) == []


def test_inspect_bad_input(longfold, phage_lambda, tmp_path):
    prefix = tmp_path / "x"
    assert longfold("prepare", phage_lambda, "-o", prefix).code == 0
    assert (
        longfold("inspect", tmp_path / "y").one_line_error(2)
        == f"cannot read '{tmp_path}/y.idx': No such file or directory"
    )
    assert (
        longfold("inspect", prefix, "--sequence", 1).one_line_error(2)
        == f"'{prefix}': expected a sequence below 1, got 1"
    )
    done = longfold("inspect", prefix, "--offset", 16160, "--count", 8)
    assert done.one_line_error(2) == f"'{prefix}': sequence 0 has 16167 tokens, got offset 16160 and count 8"
    assert done.stdout == ""
    (tmp_path / "x.bin").write_bytes((tmp_path / "x.bin").read_bytes()[:-1])
    done = longfold("inspect", prefix)
    assert done.one_line_error(2) == f"'{prefix}.bin': expected 32334 bytes, as its .idx says, got 32333"
