def is_initialized() -> bool:
    """Whether DeepSpeed's communication is set up. There is no DeepSpeed here."""
    return False
