"""deepspeed.ops.adam, from which OpenFold-3 imports a name that it uses under DeepSpeed only."""

from .._absent import absent, message


class DeepSpeedCPUAdam:
    """Refuses to be made."""

    def __init__(self, *_: object, **__: object) -> None:
        raise ImportError(f"{message('ops.adam.DeepSpeedCPUAdam')}, or use torch.optim.Adam")


__getattr__ = absent(__name__)
