"""What can go wrong, in sentences made for the person who started the services."""

__all__ = ["DevstackError", "MissingToolError", "NotReadyError", "ServiceFailedError"]


class DevstackError(Exception):
    """A service or a tool is not usable; the message says where and what to do."""


class MissingToolError(DevstackError):
    """A program that a service needs is not installed."""


class ServiceFailedError(DevstackError):
    """A server ended, or did not answer in time; the message ends with its last log lines."""


class NotReadyError(DevstackError):
    """A server does not answer its protocol yet; the next attempt may succeed."""
