"""longfold prepare and longfold inspect, from the outside."""

import array
import bz2
import fcntl
import gzip
import io
import json
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import tarfile
import termios
import time
import zipfile
import zlib

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
    "words": (b"Dear reader\n", "'{path}' is not FASTA: expected '>' at line 1, got 'D'"),
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


def archive(make) -> bytes:
    """What `make` writes into a file object."""
    file = io.BytesIO()
    make(file)
    return file.getvalue()


def zipped(file):
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("x.fa", ">a\nACGACG\n")


def tarred(file, mode="w"):
    with tarfile.open(fileobj=file, mode=mode) as out:
        member = tarfile.TarInfo("x.fa")
        member.size = 10
        out.addfile(member, io.BytesIO(b">a\nACGACG\n"))


FASTA = b">a\nACGACG\n"
# content, what it is called, what to type where the shell has it ("" for no command)
NAMED_INPUTS = {
    "xz": (lzma.compress(FASTA), "is xz data", "xz -dc '{path}'"),
    "bzip2": (bz2.compress(FASTA), "is bzip2 data", "bzip2 -dc '{path}'"),
    "gzip twice": (
        gzip.compress(gzip.compress(FASTA)),
        "holds gzip data inside gzip",
        "gzip -dc '{path}' | gzip -dc -",
    ),
    "xz in gzip": (gzip.compress(lzma.compress(FASTA)), "holds xz data inside gzip", "gzip -dc '{path}' | xz -dc -"),
    "zip": (archive(zipped), "is a zip archive", "unzip -p '{path}'"),
    "tar": (archive(tarred), "is a tar archive", "tar -xOf '{path}'"),
    "tar.gz": (
        archive(lambda file: tarred(file, "w:gz")),
        "holds a tar archive inside gzip",
        "gzip -dc '{path}' | tar -xOf -",
    ),
    "utf-16": ("\ufeff>a\nACGACG\n".encode("utf-16-le"), "is text in UTF-16", "iconv -f UTF-16 -t UTF-8 '{path}'"),
    "utf-16 without a mark": (
        FASTA.decode().encode("utf-16-be"),
        "is text in UTF-16",
        "iconv -f UTF-16BE -t UTF-8 '{path}'",
    ),
    "no header": (b"ACGACG\n", "is a sequence without a header", "sed '1i >NAME' '{path}'"),
    "semicolons": (b"; by hand\n" + FASTA, "': expected FASTA without comments", "grep -v '^;' '{path}'"),
    "hashes": (
        gzip.compress(FASTA + b"# by hand\n"),
        "': expected FASTA without",
        "gzip -dc '{path}' | grep -v '^#' -",
    ),
    "other line ends": (
        b">a desc\x0bACG\xe2\x80\xa8ACG\n",
        "': expected lines that end in LF, CRLF or CR, got another line end",
        r"LC_ALL=C sed -E 's/\v|\f|\xc2\x85|\xe2\x80[\xa8\xa9]/\n/g' '{path}'",
    ),
    "zstd": (b"\x28\xb5\x2f\xfd\x24\x0a", "is zstd data", ""),
    "fastq": (b"@r\nACGT\n+\nIIII\n", "is FASTQ", ""),
    "2bit": (b"\x43\x27\x41\x1a\0\0\0\0", "is a 2bit file", ""),
    "embl": (b"ID   X56734; SV 1; linear;\n", "is an EMBL file", ""),
    "html": (b"\n<!DOCTYPE html>\n<html>404</html>\n", "is a web page (HTML)", ""),
}


@pytest.mark.parametrize("name", NAMED_INPUTS)
def test_what_is_no_fasta_is_named_and_the_way_out_works(longfold, program, tmp_path, name):
    content, called, command = NAMED_INPUTS[name]
    path = tmp_path / "x"
    path.write_bytes(content)
    message = longfold("prepare", path, "-o", tmp_path / "out").one_line_error(2)
    assert called in message and message.startswith(f"'{path}'")
    piped = longfold("prepare", "-", "-o", tmp_path / "out", stdin=content).one_line_error(2)
    assert piped.startswith("standard input") and called.removeprefix("'") in piped
    assert os.listdir(tmp_path) == ["x"]
    if not command:
        return
    line = command.format(path=path) + " | longfold prepare - -o PREFIX"
    assert f": type {line}" in message
    tool = command.removeprefix("LC_ALL=C ").split()[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    typed = line.replace("longfold", str(program)).replace("PREFIX", str(tmp_path / "out"))
    done = subprocess.run(typed, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert decoded(longfold("inspect", tmp_path / "out").stdout) == "ACGACG"


def test_a_carriage_return_ends_a_line(longfold, tmp_path):
    for content, bases in [
        (b">a desc\rACGACG\nACG\n", ["ACGACGACG"]),
        (b">a\nACGACG\n>b desc\rTTTTTT\r\n>c\nGGGGGG\n", ["ACGACG", "TTTTTT", "GGGGGG"]),
        (b"\xef\xbb\xbf>a\rACG\rACG\r", ["ACGACG"]),
    ]:
        assert longfold("prepare", "-", "-o", tmp_path / "x", stdin=content).code == 0
        found = [decoded(longfold("inspect", tmp_path / "x", "--sequence", i).stdout) for i in range(len(bases))]
        assert found == bases


def bgzf(text: bytes, block: int = 0xFF00) -> list[bytes]:
    """Blocks as bgzip writes them, the end marker last."""
    blocks = []
    for at in range(0, len(text), block):
        raw = zlib.compressobj(6, zlib.DEFLATED, -15)
        data = raw.compress(text[at : at + block]) + raw.flush()
        header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(data) + 25)
        blocks.append(header + data + struct.pack("<II", zlib.crc32(text[at : at + block]), len(text[at : at + block])))
    return [*blocks, bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")]


def test_files_and_pipes_have_one_rule(longfold, program, tmp_path):
    text = b">a\n" + b"ACGTTGCA" * 60_000 + b"\n"
    blocks = bgzf(text)
    gzipped = gzip.compress(b">b\nACG\n")
    path = tmp_path / "x.gz"

    def results(content: bytes):
        """The bases, warning and error of a file and of a pipe."""
        path.write_bytes(content)
        both = [
            longfold("prepare", path, "-o", tmp_path / "o"),
            longfold("prepare", "-", "-o", tmp_path / "o", stdin=content),
        ]
        assert both[0].code == both[1].code and (both[0].stderr == "") == (both[1].stderr == "")
        return rows(both[0].stdout).get("bases"), both[0].stderr, both[1].stderr

    assert results(b"".join(blocks)) == (480_000, "", "")
    assert results(gzipped + bytes(1000)) == (3, "", "")
    for junk, shown in [(b"\n", "1 byte"), (b"garbage", "7 bytes")]:
        of_file, of_pipe = (
            f"longfold: warning: {name}: ignored {shown} after the end of its gzip data, as gzip does\n"
            for name in (f"'{path}'", "standard input")
        )
        assert results(gzipped + junk) == (3, of_file, of_pipe)
    for cut in (blocks[:2], blocks[:-1], [*blocks[:2], gzipped]):
        bases, of_file, of_pipe = results(b"".join(cut))
        assert bases is None
        assert "the compressed file is truncated, or was written without the end marker of BGZF" in of_pipe
        assert f"type gzip -dc '{path}' | longfold prepare - -o PREFIX" in of_file
        assert "type ... | gzip -dc | longfold prepare - -o PREFIX" in of_pipe
    plain = gzip.decompress(b"".join(blocks[:-1]))  # the way out
    assert rows(longfold("prepare", "-", "-o", tmp_path / "o", stdin=plain).stdout)["bases"] == 480_000


def test_names_never_steer_the_terminal(longfold, tmp_path):
    prefix = tmp_path / "x"
    name = "\x1b[31mred\x07\u202e" + "n" * 900_000
    path = tmp_path / "in\x1b[2J\nput.fa"
    path.write_text(f">{name}\nACGACG\n>{name}\nACGACG\n")
    done = longfold("prepare", path, "-o", prefix)
    assert done.code == 0
    assert done.stderr.splitlines() == [
        "longfold: warning: 1 record has a name that came before: '\\x1b[31mred\\x07\\xe2\\x80\\xae"
        + "n" * 33
        + f"... (900,012 bytes)', {tmp_path}/in\\x1b[2J\\nput.fa:3"
    ]
    shown = longfold("inspect", prefix)
    assert shown.code == 0 and len(shown.stdout) < 2000
    path.write_text(f">{name}\nAC!\n")
    errors = [
        longfold("prepare", path, "-o", prefix).one_line_error(2),
        longfold("prepare", tmp_path / "\x1b[31m\n", "-o", prefix).one_line_error(2),
        longfold("inspect", tmp_path / "\x1b[31m\n").one_line_error(2),
        longfold("inspect", prefix, "--\x1b[31m").one_line_error(2),
        longfold("\x1b[31m").one_line_error(2),
    ]
    assert all("\\x1b[" in error and len(error) < 600 for error in errors), errors
    for text in (done.stdout, done.stderr, shown.stdout, *errors):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), ascii(text)


def test_names_after_blanks_and_names_twice(longfold, tmp_path):
    path = tmp_path / "x.fa"
    path.write_text("> lead\nACGACG\n>\nACG\n>lead x\nACG\n")
    done = longfold("prepare", path, "-o", tmp_path / "x")
    assert done.code == 0
    assert done.stderr.splitlines() == [
        f"longfold: warning: 1 record has a name that came before: 'lead', {path}:5",
        f"longfold: warning: 1 record has no name: {path}:3",
    ]
    shown = longfold("inspect", tmp_path / "x").stdout
    assert "sequence 0: lead, frame" in shown and "sequence 1: (no name), frame" in shown
    path.write_text(">a\nACG\n")
    done = longfold("prepare", path, path, "-o", tmp_path / "x")
    assert done.code == 0 and rows(done.stdout)["records"] == 2
    assert f"1 input is a file that came before: '{path}'" in done.stderr.splitlines()[0]
    done = longfold("prepare", "-", "-", "-o", tmp_path / "x", stdin=b">a\nACG\n")
    assert done.one_line_error(2) == "expected standard input (-) once, got it several times"


def temporary_files(run, folder) -> dict[str, int]:
    """Files that the process holds open and that have no name any more: their folder and their bytes."""
    found = {}
    for fd in os.listdir(f"/proc/{run.pid}/fd"):
        link = f"/proc/{run.pid}/fd/{fd}"
        if os.readlink(link).endswith("(deleted)"):
            found[os.path.dirname(os.readlink(link))] = (
                found.get(os.path.dirname(os.readlink(link)), 0) + os.stat(link).st_size
            )
    return found


def wait_until_read(pipe):
    """Until the process has taken all that was written to it."""
    left = array.array("i", [1])
    while left[0] > 0:
        time.sleep(0.01)
        fcntl.ioctl(pipe, termios.FIONREAD, left)


def test_temporary_files_lie_beside_the_output_and_are_no_larger_than_the_tokens(program, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    run = subprocess.Popen(
        [program, "prepare", "-", "-o", tmp_path / "new" / "x", "--frame", "all"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path / "elsewhere")},
    )
    bases = 9_000_000
    run.stdin.write(b">a\n" + b"ACGTTGCAG" * (bases // 9))
    run.stdin.flush()
    wait_until_read(run.stdin)
    found = temporary_files(run, tmp_path)
    run.communicate(b"\n", timeout=60)
    assert run.returncode == 0
    assert list(found) == [str(tmp_path / "new")]
    tokens = 2 * bases // 3  # of the two frames that wait
    assert 0.5 * tokens * 2 < found[str(tmp_path / "new")] <= tokens * 2
    assert sorted(os.listdir(tmp_path / "new")) == ["x.bin", "x.idx", "x.json"]


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


@pytest.mark.parametrize(
    "content",
    [b">a\nACGACG\n>b\nACG", b"", gzip.compress(b">a\nACGACG\n", mtime=0)[:20]],
    ids=["two_records", "empty", "gzip_cut_short"],
)
def test_an_interrupt_that_ends_the_input_too_writes_nothing(program, tmp_path, content):
    """Ctrl-C stops all of `gzip -dc x.gz | longfold prepare -`: what came by then is not the whole input."""
    run = subprocess.Popen(
        [program, "prepare", "-", "-o", tmp_path / "x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    run.stdin.write(content)
    run.stdin.flush()
    wait_until_read(run.stdin)
    while not os.listdir(tmp_path) and run.poll() is None:  # it has begun when its temporary files are there
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate(timeout=60)
    assert (run.returncode, stdout, stderr) == (1, b"", b"longfold: interrupted: nothing was written\n")
    assert os.listdir(tmp_path) == []


def test_a_prefix_that_is_none_and_a_pair_without_its_json(longfold, phage_lambda, tmp_path):
    prefix = tmp_path / "x_text_document"
    assert longfold("prepare", phage_lambda, "-o", prefix).code == 0
    for ending in (".bin", ".idx", ".json"):
        message = longfold("inspect", f"{prefix}{ending}").one_line_error(2)
        assert message == f"expected the prefix of a data set, got '{prefix}{ending}': type '{prefix}'"
    message = longfold("inspect", tmp_path / "x").one_line_error(2)
    assert message == f"cannot read '{tmp_path}/x.idx': No such file or directory, did you mean '{prefix}'?"
    index = (tmp_path / "x_text_document.idx").read_bytes()
    (tmp_path / "x_text_document.idx").write_bytes(b"TNTIDX\0\0" + index[8:])
    assert "got TNTIDX, the older format of fairseq" in longfold("inspect", prefix).one_line_error(2)
    (tmp_path / "x_text_document.idx").write_bytes(index)

    before = longfold("inspect", prefix).stdout
    os.remove(f"{prefix}.json")
    message = longfold("inspect", prefix).one_line_error(2)
    command = re.search(r"type (echo .*'); docs", message)[1]
    assert "genslm69" in command
    subprocess.run(command, shell=True, check=True)
    after = longfold("inspect", prefix)
    assert after.code == 0 and decoded(after.stdout) == decoded(before)
    for line in ("tokenizer", "content", "tokens"):
        pattern = rf"^  {line} .*$"
        assert re.search(pattern, after.stdout, re.MULTILINE)[0] == re.search(pattern, before, re.MULTILINE)[0]
    assert "sequence 0: (no name), frame 0, 16,167 tokens" in after.stdout and "bases" not in after.stdout


def test_inspect_bad_input(longfold, phage_lambda, tmp_path):
    prefix = tmp_path / "x"
    assert longfold("prepare", phage_lambda, "-o", prefix).code == 0
    assert (
        longfold("inspect", tmp_path / "y").one_line_error(2)
        == f"cannot read '{tmp_path}/y.idx': No such file or directory, did you mean '{prefix}'?"
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
