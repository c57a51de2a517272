"""Loads the compiled libraries that lie in lib/ beside this file, or says what to do about it."""

import importlib.util
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent / "lib"
HOW_TO_BUILD = "in its source, run `make build` or `pip install --no-build-isolation --force-reinstall --no-deps .`"


def version(folder: pathlib.Path = FOLDER) -> str:
    """The version of longfold that the libraries were built from. Raises ImportError if there are none."""
    return _read(folder / "version.txt")


def _read(file: pathlib.Path) -> str:
    if not file.exists():
        raise ImportError(f"longfold is not built: no {file}; {HOW_TO_BUILD}")
    return file.read_text().strip()


def check_torch(folder: pathlib.Path = FOLDER) -> None:
    """Raises ImportError unless torch is there, in the very version that the libraries were built for: torch promises
    no common binary interface to any two versions."""
    built_for = _read(folder / "built_for_torch.txt")
    if importlib.util.find_spec("torch") is None:
        raise ImportError(
            f"longfold was built for torch {built_for}, but there is no torch; pip install torch=={built_for}"
        )
    import torch

    if torch.__version__.split("+")[0] != built_for:
        raise ImportError(
            f"longfold was built for torch {built_for}, but this is torch {torch.__version__}: "
            f"pip install torch=={built_for}, or build longfold again with this one ({HOW_TO_BUILD})"
        )


def load(name: str, folder: pathlib.Path = FOLDER) -> None:
    """Loads lib<name>.so and with it the ops that it registers with torch. Loading twice does nothing."""
    check_torch(folder)
    import torch

    path = folder / f"lib{name}.so"
    if not path.exists():
        raise ImportError(f"longfold is not built: no {path}; {HOW_TO_BUILD}")
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise ImportError(f"cannot load {path}: {error}; {HOW_TO_BUILD}") from error
