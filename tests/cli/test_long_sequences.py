"""Memory techniques from outside: `longfold plan`, `longfold bench reach`, and runs with [memory]."""

import json
import pathlib
import re
import shlex

import pytest
from runs import metrics

SMALL_PARTS = ["--memory.tile_tokens", 256, "--memory.chunk_tokens", 512]
LONG = {"data.sequence_length": 8000, "data.batch_size": 1, "train.steps": 3}
ALL = LONG | {
    "memory.checkpoint": "full",
    "memory.offload": "file",
    "memory.tiled_mlp": True,
    "memory.tiled_loss": True,
    "memory.chunked_attention": "file",
    "memory.tile_tokens": 500,
    "memory.chunk_tokens": 2000,
}


PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "long-sequences.md"
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS, ids=[str(i) for i in range(len(COMMANDS))])
def test_commands_of_the_page_run(longfold, recipe, tmp_path, command):
    recipe(LONG)
    program, *arguments = shlex.split(command)
    assert program == "longfold"
    done = longfold(*arguments, cwd=tmp_path)
    assert done.code == 0, done.stderr


def rows(text, first):
    """The columns, two spaces apart, of the table whose first line begins so."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(first))
    table = []
    for line in lines[begin + 1 :]:
        if not line:
            break
        table.append([column for column in line.split("  ") if column])
    return table


def losses(folder):
    return [line["loss"] for line in metrics(folder)]


def test_a_run_with_every_technique_has_the_losses_of_the_plain_one(longfold, recipe, tmp_path):
    plain = longfold("train", recipe(LONG), "--train.output", tmp_path / "plain")
    assert plain.code == 0, plain.stderr
    done = longfold("train", recipe(ALL), "--train.output", tmp_path / "all")
    assert done.code == 0, done.stderr
    assert "--memory.checkpoint full" in done.stdout and " in files a step" in done.stdout
    assert all(abs(a - b) < 1e-5 for a, b in zip(losses(tmp_path / "plain"), losses(tmp_path / "all"), strict=True))
    peak = [max(line["memory_peak"] for line in metrics(tmp_path / name)) for name in ("plain", "all")]
    assert peak[1] < 0.6 * peak[0], peak
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert not any("XXXXXX" in name or name.startswith("longfold-") for name in names), names


def test_the_plan_is_what_the_run_takes(longfold, recipe, tmp_path):
    for name, changes in (("plain", LONG), ("checkpoints", LONG | {"memory.checkpoint": "full"}), ("all", ALL)):
        path = recipe(changes)
        planned = json.loads(longfold("plan", path, "--json").stdout)
        assert longfold("train", path, "--train.output", tmp_path / name).code == 0
        peak = max(line["memory_peak"] for line in metrics(tmp_path / name))
        assert abs(planned["device_bytes"] / peak - 1) < 0.1, (name, planned["device_bytes"], peak)


def test_a_plan_says_what_takes_memory_and_what_makes_it_fit(longfold, recipe):
    done = longfold("plan", recipe(LONG), "--seq-length", 20000, "--memory-limit", "40MiB", *SMALL_PARTS)
    assert done.code == 0, done.stderr
    terms = {row[0].strip(): row for row in rows(done.stdout, "term")}
    assert "checkpoint = selective or full" in terms["activations"][-1]
    assert "more than 40.0 MiB" in terms["in all"][-1]
    ways = rows(done.stdout, "techniques")
    longest = [int(row[1].strip().replace(",", "")) for row in ways]
    assert longest[-1] > 2 * longest[0], longest
    assert done.stdout.splitlines()[-1].startswith("the fastest set that fits: --memory.")


def test_a_plan_for_a_gpu_needs_none(longfold, recipe):
    arguments = [
        "--device",
        "h100",
        "--seq-length",
        1048576,
        "--model.preset",
        "genslm-250m",
        "--memory.offload",
        "host",
    ]
    arguments += ["--memory.checkpoint", "full", "--memory.chunked_attention", "device", "--memory.tiled_mlp", "true"]
    planned = json.loads(longfold("plan", recipe(LONG), *arguments, "--json").stdout)
    assert 20 << 30 < planned["device_bytes"] < 79 << 30
    assert planned["host_bytes"] == 12 * 1048576 * 1792 * 2
    assert 200 < planned["seconds"] < 1000
    assert "unknown device 'h101', did you mean 'h100'?" in longfold(
        "plan", recipe(), "--device", "h101"
    ).one_line_error(2)


def test_auto_takes_the_fastest_set_that_fits(longfold, recipe, tmp_path):
    plain = longfold("train", recipe(LONG), "--memory.auto", "true", "--train.output", tmp_path / "a")
    assert "memory       auto: no technique is wanted" in plain.stdout
    refused = longfold("train", recipe(LONG), "--memory-limit", "14MiB", "--train.output", tmp_path / "b")
    line = refused.one_line_error(2)
    assert "it fits with --memory." in line, line
    done = longfold(
        "train", recipe(LONG), "--memory-limit", "14MiB", "--memory.auto", "true", "--train.output", tmp_path / "c"
    )
    assert done.code == 0, done.stderr
    assert "memory       auto: --memory." in done.stdout
    assert max(line["memory_peak"] for line in metrics(tmp_path / "c")) <= 14 << 20


def test_auto_is_no_word_that_others_pass_over(longfold, recipe):
    arguments = ["--memory.auto", "true", "--json"]
    planned = json.loads(longfold("plan", recipe(LONG), "--memory-limit", "14MiB", *arguments).stdout)
    assert planned["memory"]["tiled_loss"] and not planned["memory"]["auto"]
    assert planned["device_bytes"] <= 14 << 20
    step = longfold("bench", "step", "--tokens", 64, "--steps", 1, "--model.num_layers", 1, *arguments)
    assert not json.loads(step.stdout)["memory"]["auto"]
    reach = longfold("bench", "reach", "--preset", "genslm-25m", *arguments)
    assert "unexpected option '--memory.auto'" in reach.one_line_error(2)


def test_reach_climbs_and_a_real_step_takes_what_was_planned(longfold):
    arguments = ["--preset", "genslm-25m", "--model.num_layers", 4, "--model.hidden_size", 64, "--model.ffn_size", 256]
    done = longfold("bench", "reach", *arguments, *SMALL_PARTS, "--memory-limit", "24MiB", "--confirm", 1e6, "--json")
    assert done.code == 0, done.stderr
    result = json.loads(done.stdout)
    tokens = [row["tokens"] for row in result["rows"]]
    assert result["rows"][0]["techniques"] == "dense"
    assert all(after > 0.95 * before for before, after in zip(tokens, tokens[1:], strict=False)), tokens
    assert tokens[-1] >= 16 * tokens[0], tokens
    real = [row for row in result["rows"] if row["measured_bytes"]]
    assert len(real) == len(tokens)
    for row in real:
        assert abs(row["planned_bytes"] / row["measured_bytes"] - 1) < 0.1, row


def test_what_cannot_be_is_one_line(longfold, recipe):
    for changes, words in (
        ({"memory.checkpoint": "some"}, "expected memory.checkpoint to be none, selective, full or every-N"),
        (
            {"memory.checkpoint": "full", "memory.offload": "host"},
            "expected memory.offload to be file or none on the CPU",
        ),
        ({"memory.chunked_attention": "host"}, "expected memory.chunked_attention to be file or none on the CPU"),
        ({"memory.offload_optimizer": "host"}, "expected memory.offload_optimizer to be file or none on the CPU"),
        ({"memory.early_updates": True}, "expected optimizer.clip_norm to be 0 where memory.early_updates is true"),
    ):
        assert words in longfold("train", recipe(changes)).one_line_error(2)
    reach = ["bench", "reach", "--preset", "genslm-25m", "--memory.tiled_mlp", "true"]
    assert "unexpected option '--memory.tiled_mlp': bench reach turns" in longfold(*reach).one_line_error(2)
    assert "expected a recipe or --preset" in longfold("bench", "reach").one_line_error(2)
