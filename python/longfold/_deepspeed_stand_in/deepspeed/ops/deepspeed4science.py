from longfold.deepspeed4science import DS4Sci_EvoformerAttention

__all__ = ["DS4Sci_EvoformerAttention"]
