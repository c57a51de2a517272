"""What the stand-in says of everything in DeepSpeed that it cannot do."""


def message(name: str) -> str:
    return f"longfold's stand-in for deepspeed has no '{name.removeprefix('deepspeed.')}': install DeepSpeed for it"


def absent(module: str):
    """The __getattr__ of a module of the stand-in: an AttributeError, so that hasattr() is answered truthfully."""

    def __getattr__(name: str):  # noqa: N807
        raise AttributeError(message(f"{module}.{name}"))

    return __getattr__
