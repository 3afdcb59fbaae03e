"""Which addresses a cluster has. Only the link to the machine differs: pods and services live behind it, unseen."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from cluster.errors import ClusterError

__all__ = ["API_SERVICE", "DNS", "NODES", "PODS", "SERVICES", "Addresses", "choose", "identity"]

LINKS = IPv4Network("10.201.0.0/16")
"""Every cluster takes 16 addresses of it: for the link between machine and node1, and that between the nodes."""

PODS = IPv4Network("10.245.0.0/16")
SERVICES = IPv4Network("10.96.0.0/16")
API_SERVICE = SERVICES[1]
DNS = SERVICES[10]
NODES = ("node1", "node2")
_BLOCK = 28
_SLOTS = 2 ** (_BLOCK - LINKS.prefixlen)
_NARROWEST = 16
"""A route to a larger network than this is a default route of a kind, which a cluster's own goes before."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of the cluster in one of the slots."""

    slot: int

    @property
    def block(self) -> IPv4Network:
        """All of the cluster's addresses that the machine can see."""
        return IPv4Network((int(LINKS[0]) + self.slot * 16, _BLOCK))

    @property
    def machine(self) -> IPv4Address:
        return self.block[1]

    @property
    def node1(self) -> IPv4Address:
        return self.block[2]

    @property
    def node1_inner(self) -> IPv4Address:
        """Node1's end of the link to node2."""
        return self.block[5]

    @property
    def node2(self) -> IPv4Address:
        return self.block[6]

    def of(self, node: str) -> IPv4Address:
        """Return the address by which the cluster knows the node."""
        return {"node1": self.node1, "node2": self.node2}[node]

    @staticmethod
    def pods(node: str) -> IPv4Network:
        """Return the addresses of the pods on the node."""
        return list(PODS.subnets(new_prefix=24))[NODES.index(node)]


def identity(state_dir: Path) -> str:
    """Return what tells this cluster's interface and cgroups from those of others: 10 hexadecimal digits."""
    return hashlib.sha256(str(state_dir).encode()).hexdigest()[:10]


def choose(name: str, taken: Iterable[IPv4Network]) -> Addresses:
    """
    Return addresses that no network in `taken` overlaps; the same name gets the same ones while they are free.

    Raises ClusterError when there are none.
    """
    relevant = [network for network in taken if network.prefixlen >= _NARROWEST and network.overlaps(LINKS)]
    first = int(name, 16)
    for step in range(_SLOTS):
        found = Addresses((first + step) % _SLOTS)
        if not any(network.overlaps(found.block) for network in relevant):
            return found
    raise ClusterError(f"All of {LINKS} is in use on this machine (`ip route`): take down a cluster first.")
