"""deepspeed.checkpointing: without DeepSpeed's partitioning and offload it is torch's own checkpointing."""

import torch.utils.checkpoint

from ..._absent import absent


def is_configured() -> bool:
    """Whether deepspeed.checkpointing.configure() was called: never, as it is not here."""
    return False


def checkpoint(function, *args, **kwargs):
    """function(*args, **kwargs), computed again in the backward pass instead of kept."""
    return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False, **kwargs)


def non_reentrant_checkpoint(function, *args):
    """As checkpoint."""
    return checkpoint(function, *args)


__getattr__ = absent(__name__)
