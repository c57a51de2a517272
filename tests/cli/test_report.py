"""longfold report and TensorBoard's files: what they say is what metrics.jsonl says, and the page fetches nothing."""

import json
import re
import struct
from html.parser import HTMLParser

import pytest
from runs import metrics

VOID = {"meta", "br", "line"}


class Page(HTMLParser):
    """Checks that tags close in order, and keeps the charts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.lines, self.links, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag == "polyline":
            points = [tuple(map(float, pair.split(","))) for pair in attributes["points"].split()]
            self.lines.append((attributes["class"], points))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_run_is_one_page(longfold, recipe, data, tmp_path):
    look = {"train.validation": str(data), "train.validate_every": 3, "train.validate_windows": 3}
    assert longfold("train", recipe({**look, "train.steps": 9})).code == 0
    done = longfold("report", tmp_path / "run")
    assert done.code == 0 and done.stdout == f"{tmp_path / 'run' / 'report.html'}\n"
    text = (tmp_path / "run" / "report.html").read_text()
    page = Page(text)
    assert page.links == [] and not re.search(r"https?:|@import|url\(|<script", text), "it fetches nothing"
    assert "prefers-color-scheme: dark" in text
    # Loss (trained on, held out, validation), rate, gradient norm, speed, memory (twice).
    names = ["Loss", "Learning rate", "Gradient norm", "Speed", "Memory"]
    assert re.findall(r"<h2>(.*?)</h2>", text) == names
    assert [len(points) for _, points in page.lines if len(points) in (3, 9)].count(9) >= 5
    lines = metrics(tmp_path / "run")
    validation = [line["validation_loss"] for line in lines if line["validation_loss"] is not None]
    assert f"{lines[-1]['loss']:.4f}" in page.words and f"{min(validation):.4f} after step 9" in page.words
    recipe_rows = dict(re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td></tr>", text))
    assert recipe_rows["train.steps"] == "9" and recipe_rows["data.path"] == str(data)
    # A line goes up where its numbers do: y grows downwards.
    (losses,) = [points for name, points in page.lines if name == "line line0"][:1]
    numbers = [line["loss"] for line in lines]
    low, high = min(range(9), key=numbers.__getitem__), max(range(9), key=numbers.__getitem__)
    assert losses[low][1] == max(y for _, y in losses) and losses[high][1] == min(y for _, y in losses)
    assert [x for x, _ in losses] == sorted(x for x, _ in losses)


def write_metrics(folder, lines):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_long_runs_are_thinned_but_no_spike_is_lost(longfold, tmp_path):
    run = tmp_path / 'a <b> & "c"'
    lines = [{"step": step, "loss": 2.0, "grad_norm": 1.0, "skipped": step == 7} for step in range(1, 50_001)]
    lines[31_234]["loss"] = 9.0
    lines[6]["loss"] = None
    write_metrics(run, lines)
    assert longfold("report", run, "-o", tmp_path / "page.html").code == 0
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert len(text) < 100_000
    (loss, _) = [points for _, points in page.lines]
    assert 300 <= len(loss) <= 600
    assert sum(y < 50 for _, y in loss) == 1, "the spike"
    assert "&lt;b&gt; &amp;" in text and "<b>" not in text
    assert "1: a loss or gradient was not a number" in page.words
    assert "not known: the run has no checkpoint yet" in page.words


def test_what_is_no_run_is_one_line(longfold, tmp_path):
    assert "has no metrics.jsonl" in longfold("report", tmp_path).one_line_error(2)
    write_metrics(tmp_path, [])
    assert "has no step yet" in longfold("report", tmp_path).one_line_error(2)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnotes\n')
    assert "line 2 is no JSON with a step" in longfold("report", tmp_path).one_line_error(2)
    write_metrics(tmp_path, [{"step": 1, "loss": 2.5}])
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 2, "lo')
    assert longfold("report", tmp_path).code == 0, "a line that is being written"
    assert "cannot write" in longfold("report", tmp_path, "-o", tmp_path / "no" / "page.html").one_line_error(2)


def scalars(path):
    """(step, tag, value) of an event file, and the steps at which a run began."""
    content, found, starts = path.read_bytes(), [], []

    def fields(message):
        at = 0

        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = message[at]
                at += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return value

        while at < len(message):
            key = varint()
            size = {1: 8, 5: 4}.get(key & 7)
            if key & 7 == 0:
                yield key >> 3, varint()
                continue
            size = size or varint()
            yield key >> 3, message[at : at + size]
            at += size

    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = list(fields(content[at + 12 : at + 12 + length]))
        at += 16 + length
        step = dict(event).get(2, 0)
        starts += [step for number, _ in event if number == 7]
        for number, summary in event:
            for _, value in fields(summary) if number == 5 else ():
                parts = dict(fields(value))
                found.append((step, parts[1].decode(), struct.unpack("<f", parts[2])[0]))
    return found, starts


def test_tensorboard_gets_the_same_numbers(longfold, recipe, data, tmp_path):
    look = {"train.validation": str(data), "train.validate_every": 2, "train.validate_windows": 2}
    path = recipe({**look, "train.tensorboard": True})
    assert longfold("train", path, "--train.steps", 3).code == 0
    assert longfold("train", path, "--resume").code == 0
    files = sorted((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"), key=lambda file: scalars(file)[1])
    assert [scalars(file)[1] for file in files] == [[1], [4]], "each run of the program says where it began"
    shown = {(step, tag): value for file in files for step, tag, value in scalars(file)[0]}
    names = {
        "loss/train": "loss",
        "loss/held_out": "held_out_loss",
        "loss/validation": "validation_loss",
        "optimizer/grad_norm": "grad_norm",
        "optimizer/learning_rate": "learning_rate",
        "speed/tokens_per_second": "tokens_per_second",
        "speed/seconds_waited": "seconds_waited",
        "memory/peak": "memory_peak",
    }
    for line in metrics(tmp_path / "run"):
        for tag, key in names.items():
            if line[key] is None:
                assert (line["step"], tag) not in shown
            else:
                assert shown[line["step"], tag] == pytest.approx(line[key], rel=1e-6)
    assert longfold("train", recipe(), "--train.output", tmp_path / "none").code == 0
    assert not (tmp_path / "none" / "tensorboard").exists()
