"""What can go wrong, in sentences made for the person at the terminal."""

__all__ = ["ClusterError", "ComponentEnded", "MissingPackage"]


class ClusterError(Exception):
    """The cluster, or a program that it needs, is not usable; the message says where and what to do."""


class MissingPackage(ClusterError):
    """A program is not installed; the message ends with the command that installs it."""


class ComponentEnded(ClusterError):
    """A part of the cluster ended while others waited for it; the message ends with its last log lines."""
