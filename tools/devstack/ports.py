"""Free TCP ports on the loopback interface."""

import random
import socket
from pathlib import Path

from devstack.errors import DevstackError

__all__ = ["HOST", "free_port", "is_free"]

HOST = "127.0.0.1"
_LOWEST = 20_000
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_EPHEMERAL = 32_768


def _first_ephemeral() -> int:
    if not _RANGE_FILE.exists():
        return _DEFAULT_EPHEMERAL
    first = int(_RANGE_FILE.read_text().split()[0])
    return first if first > _LOWEST + 1_000 else _DEFAULT_EPHEMERAL


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of an earlier run that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: frozenset[int] = frozenset()) -> int:
    """
    Return a port on which nobody listens, below the system's ephemeral range and not in `taken`.

    A port that the system would hand out (bind to 0) is unfit for a server that tests stop and start
    again: while it is down any outgoing connection may be given the port, and a client that keeps
    reconnecting to it can even end up connected to itself.
    """
    ephemeral = _first_ephemeral()
    choice = random.SystemRandom()
    for _ in range(200):
        port = choice.randrange(_LOWEST, ephemeral)
        if port not in taken and is_free(port):
            return port
    raise DevstackError(
        f"Found no free TCP port on {HOST} between {_LOWEST} and {ephemeral}: end servers that are not needed."
    )
