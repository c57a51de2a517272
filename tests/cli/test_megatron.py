"""Token files and Megatron: it reads ours, and its own pairs train here."""

import json
import struct

import numpy as np
import pytest
from runs import SMALL, checkpoints, losses


@pytest.fixture(scope="module")
def indexed_dataset():
    """Megatron's own reader, `pip install --no-deps megatron-core`; it wants torch beside it."""
    return pytest.importorskip(
        "megatron.core.datasets.indexed_dataset", reason="megatron.core.datasets.indexed_dataset is not installed"
    )


def megatron_pair(prefix, sequences, code, dtype):
    """The bytes that Megatron writes for these sequences, each a document, by the published layout."""
    lengths = [len(sequence) for sequence in sequences]
    offsets = np.cumsum([0, *lengths[:-1]]) * np.dtype(dtype).itemsize
    with open(f"{prefix}.idx", "wb") as file:
        file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(lengths), len(lengths) + 1))
        file.write(np.array(lengths, np.int32).tobytes())
        file.write(offsets.astype(np.int64).tobytes())
        file.write(np.arange(len(lengths) + 1, dtype=np.int64).tobytes())
    with open(f"{prefix}.bin", "wb") as file:
        for sequence in sequences:
            file.write(np.array(sequence, dtype).tobytes())


def random_sequences(count=8, length=300):
    random = np.random.default_rng(0)
    return [random.integers(5, 69, length + i) for i in range(count)]


@pytest.mark.parametrize("arguments", [(), ("--frame", "all"), ("--tokenizer", "nucleotide", "--window", "1000")])
def test_megatron_reads_our_pairs(longfold, phage_lambda, tmp_path, indexed_dataset, arguments):
    assert longfold("prepare", phage_lambda, "-o", tmp_path / "x", *arguments).code == 0
    theirs = indexed_dataset.IndexedDataset(str(tmp_path / "x"))
    says = json.loads((tmp_path / "x.json").read_text())
    raw = np.fromfile(tmp_path / "x.bin", np.uint16)
    assert len(theirs) == len(says["sequences"]) > 0
    assert list(theirs.document_indices) == list(range(len(theirs) + 1))
    assert np.array_equal(np.concatenate([theirs[i] for i in range(len(theirs))]), raw)
    assert raw.size == says["counts"]["tokens"]


def test_a_pair_that_megatron_builds_is_read(longfold, tmp_path, indexed_dataset):
    import torch

    sequences = random_sequences()
    builder = indexed_dataset.IndexedDatasetBuilder(str(tmp_path / "x.bin"), dtype=np.uint16)
    for sequence in sequences:
        builder.add_document(torch.tensor(sequence), [len(sequence)])
    builder.finalize(str(tmp_path / "x.idx"))
    megatron_pair(tmp_path / "ours", sequences, 8, np.uint16)
    for ending in (".idx", ".bin"):
        assert (tmp_path / f"x{ending}").read_bytes() == (tmp_path / f"ours{ending}").read_bytes()
    shown = longfold("inspect", tmp_path / "x", "--tokenizer", "genslm69")
    assert shown.code == 0 and "in 8 sequences, the longest 307" in shown.stdout


@pytest.mark.parametrize(("code", "dtype"), [(8, np.uint16), (4, np.int32), (1, np.uint8), (5, np.int64)])
def test_megatrons_pairs_train_with_a_tokenizer(longfold, recipe, tmp_path, code, dtype):
    prefix = tmp_path / "x_text_document"
    megatron_pair(prefix, random_sequences(), code, dtype)
    path = recipe({"data.path": str(prefix), "data.sequence_length": 64, "train.steps": 2})
    refused = longfold("train", path).one_line_error(2)
    assert f"cannot read '{prefix}.json'" in refused and "--tokenizer genslm69" in refused
    done = longfold("train", path, "--tokenizer", "genslm69")
    assert done.code == 0, done.stderr
    assert checkpoints(tmp_path / "run") == ["step-00000002"]
    assert all(loss < 5 for _, loss, _, _ in losses(tmp_path / "run"))
    done = longfold("train", path, "--data.tokenizer", "genslm69", "--resume", "--train.steps", 3)
    assert done.code == 0, done.stderr
    assert not prefix.with_suffix(".json").exists()


def test_a_tokenizer_that_does_not_fit_is_named(longfold, data, recipe, tmp_path):
    message = longfold("train", recipe(), "--tokenizer", "nucleotide").one_line_error(2)
    assert message == f"'{data}.json' says tokenizer genslm69, but --tokenizer (data.tokenizer) is nucleotide"
    assert longfold("inspect", data, "--tokenizer", "genslm69").code == 0
    megatron_pair(tmp_path / "x", random_sequences(), 8, np.uint16)
    message = longfold("inspect", tmp_path / "x", "--tokenizer", "nucleotide").one_line_error(2)
    assert "expected ids below 9" in message


def test_a_mixture_trains_and_resumes_as_if_nothing_had_happened(longfold, recipe, tmp_path):
    prefix = tmp_path / "other"
    megatron_pair(prefix, random_sequences(), 8, np.uint16)
    says = {"format": "longfold tokens", "version": 1, "tokenizer": {"name": "genslm69"}}
    prefix.with_suffix(".json").write_text(json.dumps(says))
    mixed = {"data.mixture": f"{prefix} 1.5", "train.checkpoint_every": 2, "train.steps": 6}
    assert SMALL["train.steps"] == 6
    assert longfold("train", recipe(mixed)).code == 0
    whole = losses(tmp_path / "run")
    assert longfold("train", recipe({"train.steps": 6, "train.output": str(tmp_path / "plain")})).code == 0
    assert losses(tmp_path / "plain") != whole
    for name in ("step-00000004", "step-00000006"):
        for file in (tmp_path / "run" / name).iterdir():
            file.unlink()
        (tmp_path / "run" / name).rmdir()
    done = longfold("train", recipe(mixed), "--resume")
    assert done.code == 0, done.stderr
    assert losses(tmp_path / "run") == whole
    raw = bytearray(prefix.with_suffix(".bin").read_bytes())
    raw[0] ^= 1
    prefix.with_suffix(".bin").write_bytes(raw)
    message = longfold("train", recipe({**mixed, "train.steps": 8}), "--resume").one_line_error(2)
    assert "was trained on tokens with hash" in message
