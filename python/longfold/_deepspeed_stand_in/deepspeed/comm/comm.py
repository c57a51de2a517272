"""deepspeed.comm.comm, of which OpenFold asks is_initialized()."""

from .._absent import absent


def is_initialized() -> bool:
    """Whether DeepSpeed has started its communication: never, as it is not here."""
    return False


__getattr__ = absent(__name__)
