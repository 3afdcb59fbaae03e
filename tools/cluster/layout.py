"""Where everything of one cluster lies in its state folder, and what its processes are told."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from cluster.addresses import Addresses, identity

__all__ = ["Layout", "Plan"]

_INSIDE = Path("/run/taskbridge")
"""A folder of the namespaces' own: short, since the path of a socket has 107 bytes at most, and kubelets make some."""


@dataclass(frozen=True)
class Plan:
    """What the processes inside the namespaces need to know and cannot find out there."""

    slot: int
    kubernetes: str
    """The folder with kubelet and the others."""
    images: list[str]
    """Archives to load before the first pod starts."""
    storage: str
    """The most memory that the nodes' file system may take up, as `mount` takes it."""

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.slot)


class Layout:
    """
    The paths of a cluster; none of them need exist.

    What the machine is to see lies in the state folder, whatever its name; the nodes' files have the same short paths
    in the namespaces of every cluster.
    """

    def __init__(self, state_dir: Path, inside: Path = _INSIDE) -> None:
        self.root = state_dir
        self.name = identity(state_dir)
        self.kubeconfig = state_dir / "kubeconfig"
        self.pki = state_dir / "pki"
        self.logs = state_dir / "logs"
        self.nodes = inside / "nodes"
        """A file system of its own, only there inside the namespaces, so that the kubelets can tell its size."""
        self.etcd = self.nodes / "etcd"
        self.ready = state_dir / "ready"
        """There once the cluster can be used."""
        self.failure = state_dir / "failure"
        """Says why the cluster did not start."""
        self._plan = state_dir / "plan.json"

    @property
    def interface(self) -> str:
        """The machine's end of the link to node1."""
        return f"tb{self.name}"

    def cgroup(self, node: str) -> str:
        """Return the name of the control group that holds the node's pods."""
        return f"taskbridge-{self.name}-{node}"

    def identity_of(self, component: str) -> Path:
        """Return the kubeconfig of a component or node."""
        return self.pki / f"{component}.kubeconfig"

    def node(self, name: str) -> Path:
        """Return the folder that holds everything of a node."""
        return self.nodes / name

    def announcements(self, node: str) -> Path:
        """Return the folder in which the node's network tells of its pods."""
        return self.node(node) / "announced"

    def node_pid(self, name: str) -> Path:
        """Return the file with the number, inside the namespace, of the node's first process."""
        return self.root / f"{name}.pid"

    def write_plan(self, plan: Plan) -> None:
        """Store the plan for the processes of the cluster."""
        self._plan.write_text(json.dumps(asdict(plan)))

    def read_plan(self) -> Plan:
        """Return the plan; raises OSError, ValueError, TypeError."""
        return Plan(**json.loads(self._plan.read_text()))

    @classmethod
    def at(cls, path: str) -> Self:
        return cls(Path(path))
