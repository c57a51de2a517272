"""Loads the compiled libraries that lie in lib/ beside this file, or says what to do about it."""

import importlib.util
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent / "lib"
HOW_TO_BUILD = "run `make build` in the checkout"


def check_torch(folder: pathlib.Path = FOLDER) -> None:
    """Raises ImportError unless torch is there, in the version that the libraries were built for."""
    version_file = folder / "built_for_torch.txt"
    if not version_file.exists():
        raise ImportError(f"longfold is not built: no {version_file}; {HOW_TO_BUILD}")
    built_for = version_file.read_text().strip()
    if importlib.util.find_spec("torch") is None:
        raise ImportError(
            f"longfold was built for torch {built_for}, but there is no torch; pip install torch=={built_for}"
        )
    import torch

    if torch.__version__.split("+")[0] != built_for:
        raise ImportError(
            f"longfold was built for torch {built_for}, but this is torch {torch.__version__}: "
            f"install torch {built_for}, or build again with this one ({HOW_TO_BUILD})"
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
