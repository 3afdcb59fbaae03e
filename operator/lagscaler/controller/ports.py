"""What the controller needs of the world outside, so that its logic can be shown without it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from lagscaler.bridge.client import Done, Move, Outlook, Standing
from lagscaler.kafka.sampler import Reading, Request
from lagscaler.kubernetes.events import Notice
from lagscaler.kubernetes.kinds import Kind
from lagscaler.resources.reading import Key


class KubernetesPort(Protocol):
    """Reads and writes of the Kubernetes API; each raises KubernetesError."""

    async def every(self, kind: Kind, namespace: str | None) -> list[dict[str, Any]]:
        """Return all resources of a kind in a namespace, or in the cluster."""
        ...

    async def one(self, kind: Kind, key: Key) -> dict[str, Any]:
        """Return a resource as it is now."""
        ...

    async def patch_status(
        self, kind: Kind, key: Key, uid: str, patch: Mapping[str, Any], *, first: bool = False
    ) -> dict[str, Any]:
        """Change members of the status of the resource with that identity, and return the resource."""
        ...

    async def scale(self, key: Key, replicas: int) -> dict[str, Any]:
        """Set the replicas of a Deployment, and return its Scale."""
        ...


class RecorderPort(Protocol):
    """Tells people what happened; never fails."""

    async def tell(self, kind: Kind, key: Key, uid: str, notice: Notice) -> None:
        """Tell a notice about one resource."""
        ...


class SamplerPort(Protocol):
    """One Kafka cluster's sampler."""

    async def sample(self, requests: Sequence[Request]) -> Mapping[Hashable, Reading]:
        """Return a reading for each request; what could not be learned stands in its gaps."""
        ...

    def keep(self, groups: Sequence[str]) -> None:
        """Forget what was learned of all groups but these."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class BridgePort(Protocol):
    """One bridge's HTTP API; requests raise BridgeError."""

    async def standings(self) -> dict[str, Standing]:
        """Return how every service stands."""
        ...

    async def last_move(self, service: str) -> Move | None:
        """Return who moved a service last."""
        ...

    async def transition(self, service: str, body: Mapping[str, Any]) -> Done:
        """Carry a transition out."""
        ...

    async def outlook(self, service: str, stage: str, percent: float | None) -> Outlook:
        """Return what a step would take, changing nothing."""
        ...
