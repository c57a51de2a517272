"""deepspeed.ops.deepspeed4science"""

from ..._absent import absent
from .evoformer_attn import DS4Sci_EvoformerAttention

__all__ = ["DS4Sci_EvoformerAttention"]

__getattr__ = absent(__name__)
