from . import deepspeed4science

__all__ = ["deepspeed4science"]
