"""The link between the machine and a cluster's first node."""

import json
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from cluster import cache
from cluster.addresses import Addresses, choose
from cluster.errors import ClusterError

__all__ = ["connect", "disconnect", "hand_over"]


def connect(name: str, interface: str) -> Addresses:
    """Make a link and return the addresses that the cluster got; the link's other end is still on this side."""
    with cache.locked("cluster-addresses"):
        found = choose(name, _taken())
        _ip("link", "add", interface, "type", "veth", "peer", "name", f"{interface}p")
        _ip("address", "add", f"{found.machine}/30", "dev", interface)
        # Once the cluster is gone its addresses lead nowhere, rather than to the machine's gateway.
        _ip("route", "add", "unreachable", str(found.block))
    _ip("link", "set", interface, "up")
    return found


def hand_over(interface: str, pid: int) -> None:
    """Put the link's other end, as eth0, into the network namespace of the process."""
    _ip("link", "set", f"{interface}p", "netns", str(pid), "name", "eth0")


def disconnect(interface: str, addresses: Addresses | None) -> None:
    """Remove the link, and the route of these addresses; what is gone already is no error."""
    for name in (interface, f"{interface}p"):
        if Path("/sys/class/net", name).exists():
            _ip("link", "delete", name, missing_ok=True)
    if addresses is not None:
        _ip("route", "delete", "unreachable", str(addresses.block), missing_ok=True)


def _taken() -> list[IPv4Network]:
    """Return the networks that the machine has routes to: links have one, and so have clusters that crashed."""
    routes: list[dict[str, Any]] = json.loads(_ip("-json", "-4", "route", "show"))
    return [IPv4Network(route["dst"], strict=False) for route in routes if route["dst"] != "default"]


def _ip(*arguments: str, missing_ok: bool = False) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and not missing_ok:
        raise ClusterError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
