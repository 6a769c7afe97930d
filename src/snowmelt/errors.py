"""The error that is the input's fault."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something that was given cannot be used: its message says what, what was expected, and what to do.

    The command line shows it as one message and exits with 2; any other exception is a defect or a failure
    of the machine, and shows its traceback.
    """
