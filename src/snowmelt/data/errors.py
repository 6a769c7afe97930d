"""What is wrong with somebody's data."""

from snowmelt.errors import InputError

__all__ = ["DataError"]


class DataError(InputError):
    """Training data cannot be used; the message names the file or folder and says what to do."""
