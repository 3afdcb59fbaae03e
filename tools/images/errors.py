"""What can go wrong, in sentences made for the person who builds the images."""

__all__ = ["BuildFailedError", "ImagesError", "MissingToolError"]


class ImagesError(Exception):
    """An image cannot be built; the message says where and what to do."""


class MissingToolError(ImagesError):
    """A program that builds images is not installed."""


class BuildFailedError(ImagesError):
    """A program that builds images failed; the message ends with the last lines it said."""
