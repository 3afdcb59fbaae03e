"""What can go wrong, in sentences made for the person who applied the resources."""

__all__ = ["StandinError"]


class StandinError(Exception):
    """A resource cannot be applied; the message names it and says why."""
