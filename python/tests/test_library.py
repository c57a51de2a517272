"""Errors of loading say what to do."""

import pathlib
import re

import pytest
import torch

import longfold
from longfold import _library

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "built_for_torch.txt").write_text(torch.__version__.split("+")[0] + "\n")
    return tmp_path


def test_not_built(tmp_path):
    with pytest.raises(ImportError, match=r"longfold is not built: no .*built_for_torch.txt; .*`make build`"):
        _library.load("longfold_ops", tmp_path)


def test_library_is_gone(folder):
    with pytest.raises(ImportError, match=r"longfold is not built: no .*liblongfold_ops.so; .*`make build`"):
        _library.load("longfold_ops", folder)


def test_built_for_another_torch(folder):
    (folder / "built_for_torch.txt").write_text("1.2.3\n")
    with pytest.raises(ImportError, match=rf"built for torch 1\.2\.3, but this is torch {torch.__version__[:3]}"):
        _library.load("longfold_ops", folder)


def test_broken_library(folder):
    (folder / "liblongfold_ops.so").write_text("not a library")
    with pytest.raises(ImportError, match=r"cannot load .*liblongfold_ops.so: .*`make build`"):
        _library.load("longfold_ops", folder)


def test_version_is_that_of_cmake():
    (version,) = re.findall(r"project\(longfold VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())
    assert longfold.__version__ == version


def test_version_of_nothing(tmp_path):
    with pytest.raises(ImportError, match=r"longfold is not built: no .*version.txt; .*`pip install [^`]+`"):
        _library.version(tmp_path)


def test_built_for_this_torch():
    assert (_library.FOLDER / "built_for_torch.txt").read_text().strip() == torch.__version__.split("+")[0]
