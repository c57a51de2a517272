"""Every block in docs/python.md that can be typed is run, as it stands; what the page says of names is so."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from test_deepspeed import without_deepspeed

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.DOTALL)


@without_deepspeed
@pytest.mark.parametrize("code", [code for _, code in BLOCKS], ids=[str(i) for i in range(len(BLOCKS))])
def test_block(code):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_examples_of_causal_attention():
    page = (ROOT / "docs" / "causal.md").read_text()
    example, merging = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    for code in (
        example + "assert out.shape == q.shape and torch.isfinite(out).all()",
        merging + "torch.testing.assert_close(out, longfold.causal_attention(q, k, v)[:, 600:])",
    ):
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_every_block_is_python_and_checks_something():
    assert len(BLOCKS) == 4
    for language, code in BLOCKS:
        assert language == "python" and "assert " in code


def test_names_and_files_exist():
    for name in set(re.findall(r"`longfold\.(\w+)\.(\w+)[`(]", PAGE)):
        module = __import__(f"longfold.{name[0]}", fromlist=[name[1]])
        assert callable(getattr(module, name[1])), name
    for path in re.findall(r"examples/\w+\.py", PAGE):
        assert (ROOT / path).exists(), path


def test_the_readme_links_to_the_page():
    assert "(docs/python.md)" in (ROOT / "README.md").read_text()
