"""What can go wrong, in sentences made for the person who asked for the definitions."""

__all__ = ["CrdsError"]


class CrdsError(Exception):
    """The definitions cannot be made; the message says why and what to do."""
