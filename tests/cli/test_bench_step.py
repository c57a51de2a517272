"""`longfold bench step`, and the comparison that calls it."""

import json


def test_it_times_steps_and_gives_their_losses(longfold):
    shown = longfold("bench", "step", "--tokens", 64, "--steps", 2, "--threads", 1, "--json")
    assert shown.code == 0, shown.stderr
    result = json.loads(shown.stdout)
    assert len(result["seconds"]) == 2 and min(result["seconds"]) > 0
    assert result["tokens"] == 64 and result["threads"] == 1 and result["linear"] in ("torch", "onednn")
    assert 3.5 < result["losses"][0] < 5 and result["losses"][-1] < result["losses"][0]
    again = json.loads(longfold("bench", "step", "--tokens", 64, "--steps", 2, "--threads", 1, "--json").stdout)
    assert again["losses"] == result["losses"]


def test_what_cannot_be_is_one_line(longfold):
    assert longfold("bench", "step", "--tokens", 0).one_line_error(2) == "expected --tokens to be at least 1, got 0"
    wrong = longfold("bench", "step", "--linear", "mkl").one_line_error(2)
    assert wrong == 'expected compute.linear to be auto, torch or onednn, got "mkl"'
    assert "genslm-25m" in longfold("bench", "step", "--preset", "genslm-1m").one_line_error(2)
