"""deepspeed.utils.zero_to_fp32, which OpenFold's training script imports, and uses for checkpoints of ZeRO only."""

from .._absent import absent

__getattr__ = absent(__name__)
