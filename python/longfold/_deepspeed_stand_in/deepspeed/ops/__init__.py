"""deepspeed.ops"""

from .._absent import absent
from . import deepspeed4science

__all__ = ["deepspeed4science"]

__getattr__ = absent(__name__)
