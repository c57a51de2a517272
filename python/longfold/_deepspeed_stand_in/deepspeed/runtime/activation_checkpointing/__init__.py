"""deepspeed.runtime.activation_checkpointing"""

from ..._absent import absent

__getattr__ = absent(__name__)
