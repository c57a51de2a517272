"""deepspeed.ops.deepspeed4science.evoformer_attn"""

from longfold.deepspeed4science import DS4Sci_EvoformerAttention

from ..._absent import absent

__all__ = ["DS4Sci_EvoformerAttention"]

__getattr__ = absent(__name__)
