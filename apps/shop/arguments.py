"""Types of command line options."""

from argparse import ArgumentTypeError


def positive(text: str) -> float:
    """Return a number above zero; raise ArgumentTypeError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise ArgumentTypeError(f"{text!r} is not a number above 0 and below a million")
    return value


def count(text: str) -> int:
    """Return a whole number from 1 to 99999; raise ArgumentTypeError for anything else."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 100_000:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 99999")
    return int(text)
