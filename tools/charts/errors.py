"""What can go wrong, in sentences made for the person who asked about the charts."""

__all__ = ["ChartsError"]


class ChartsError(Exception):
    """A chart, or a tool that looks at it, is not right; the message says what to do."""
