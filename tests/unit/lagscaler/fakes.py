"""Kubernetes, Kafka and a bridge as they look from inside the operator, in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from lagscaler.bridge.client import BridgeError, Done, Move, Outlook, Place, RequestRefusedError, Standing
from lagscaler.controller.world import World
from lagscaler.kafka.sampler import Reading, Request
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.events import Notice
from lagscaler.kubernetes.kinds import DEPLOYMENTS, Kind
from lagscaler.policy.model import Gap, PartitionSample
from lagscaler.resources.cutover import STAGES
from lagscaler.resources.reading import Key, key_of
from lagscaler.settings import BridgeSettings, ClusterSettings, Settings

DEADLINE = 90.0


SETTINGS = Settings(
    clusters={name: ClusterSettings(name, "kafka:9092", namespaces=("shop",)) for name in ("main", "other")},
    bridges={"main": BridgeSettings("main", "http://shop/bridge/api", Path("/token"), namespaces=("shop",))},
)
"""Clusters and a bridge for the namespace of the tests."""


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true"
        await asyncio.sleep(0.005)
    return found


class Clock:
    """Time that goes faster than ours."""

    def __init__(self, speed: float = 20.0) -> None:
        self._began = time.monotonic()
        self._speed = speed

    def __call__(self) -> float:
        return 1_800_000_000.0 + (time.monotonic() - self._began) * self._speed


class FakeKubernetes:
    """Keeps resources, and tells a World of every change at once, as a watch does a little later."""

    def __init__(self) -> None:
        self.world: World
        self.bodies: dict[tuple[str, Key], dict[str, Any]] = {}
        self.scaled: list[tuple[str, int]] = []
        self.patches: list[tuple[str, Mapping[str, Any]]] = []
        self.broken: KubernetesError | None = None
        self.lost_answers = False
        """Whether writes are made and their answers lost."""
        self.ends_with_a_scale = False
        """Whether the operator ends as soon as it wrote replicas: nothing that it writes then arrives."""
        self.unscalable: KubernetesError | None = None
        """What writes of replicas, and only these, are answered with."""
        self.tries = 0
        """Writes of replicas that were tried."""
        self.stuck: set[str] = set()
        """Writes that get no answer for now: `patch_status`, and those of replicas by the name of the Deployment."""
        self._version = 100

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Create or replace a resource, as somebody else does."""
        self._version += 1
        found = deepcopy(dict(body))
        found["metadata"]["resourceVersion"] = str(self._version)
        self.bodies[kind.name, key_of(found)] = found
        self.world.see(kind, "MODIFIED", deepcopy(found))

    def remove(self, kind: Kind, name: str) -> None:
        """Delete a resource."""
        self.world.see(kind, "DELETED", self.bodies.pop((kind.name, Key("shop", name))))

    def change(self, kind: Kind, name: str, **spec: Any) -> None:
        """Change a spec."""
        body = self.bodies[kind.name, Key("shop", name)]
        generation = body["metadata"]["generation"] + 1
        self.put(
            kind, {**body, "spec": {**body["spec"], **spec}, "metadata": {**body["metadata"], "generation": generation}}
        )

    def status(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return a status."""
        return dict(self.bodies[kind.name, Key("shop", name)].get("status") or {})

    def replicas(self, name: str = "worker") -> int:
        """Return what a Deployment asks for."""
        return int(self.bodies[DEPLOYMENTS.name, Key("shop", name)]["spec"]["replicas"])

    async def every(self, kind: Kind, namespace: str | None) -> list[dict[str, Any]]:
        return [body for (name, _), body in self.bodies.items() if name == kind.name]

    async def one(self, kind: Kind, key: Key) -> dict[str, Any]:
        return deepcopy(self._found(kind, key))

    async def patch_status(
        self, kind: Kind, key: Key, uid: str, patch: Mapping[str, Any], *, first: bool = False
    ) -> dict[str, Any]:
        if self.ends_with_a_scale and self.scaled:
            raise KubernetesError(0, "the operator has ended")
        await self._answer("patch_status")
        body = self._found(kind, key)
        if body["metadata"]["uid"] != uid:
            raise KubernetesError(404, f"the {kind.name} {key} that was meant is gone")
        before = body.get("status") or {}
        if not first and not before:
            raise KubernetesError(422, f"{key} has no status")
        self.patches.append((key.name, patch))
        whole = {**({} if first else before), **patch}
        self.put(kind, {**body, "status": {name: value for name, value in whole.items() if value is not None}})
        return deepcopy(self.bodies[kind.name, key])

    async def scale(self, key: Key, replicas: int) -> dict[str, Any]:
        self.tries += 1
        await self._answer(key.name)
        if self.unscalable is not None:
            raise self.unscalable
        body = self._found(DEPLOYMENTS, key)
        self.scaled.append((key.name, replicas))
        self.put(DEPLOYMENTS, {**body, "spec": {**body["spec"], "replicas": replicas},
                               "status": {"replicas": replicas, "readyReplicas": replicas}})  # fmt: skip
        if self.lost_answers:
            raise KubernetesError(0, "no answer in time")
        return {"metadata": {"resourceVersion": str(self._version)}, "spec": {"replicas": replicas}}

    async def _answer(self, write: str) -> None:
        while write in self.stuck:
            await asyncio.sleep(0.005)

    def _found(self, kind: Kind, key: Key) -> dict[str, Any]:
        if self.broken is not None:
            raise self.broken
        if (kind.name, key) not in self.bodies:
            raise KubernetesError(404, f"{key} not found")
        return self.bodies[kind.name, key]


class FakeRecorder:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Notice]] = []
        self.during: list[Callable[[], None]] = []
        """What happens while something is told, once each."""
        self.stuck = False
        """Whether what is told gets no answer for now."""

    async def tell(self, kind: Kind, key: Key, uid: str, notice: Notice) -> None:
        self.told.append((key.name, notice))
        while self.during:
            self.during.pop()()
        # As a request to the API server: others have their turn.
        await asyncio.sleep(0.005)
        while self.stuck:
            await asyncio.sleep(0.005)

    def reasons(self, name: str) -> list[str]:
        """Return the reasons of what was told about one resource."""
        return [notice.reason for about, notice in self.told if about == name]


class FakeSampler:
    """A Kafka in which every group is `lag` records behind in each of four partitions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lag = 0
        self.gaps: dict[Gap, str] = {}
        self.nobody = False
        """Whether the group has no member."""
        self.blind = False
        """Whether nothing is learned of any partition."""
        self.uncommitted = 0
        """Partitions that the group has no committed offset of."""
        self.asked: list[list[Request]] = []
        self.failure: Exception | None = None
        self.during: list[Callable[[], None]] = []
        """What happens while Kafka is asked, once each."""
        self._clock = clock

    async def sample(self, requests: Sequence[Request]) -> Mapping[Hashable, Reading]:
        self.asked.append(list(requests))
        if self.failure is not None:
            raise self.failure
        commits = [None if number < self.uncommitted else 1_000 for number in range(4)]
        partitions = {
            ("t", number): PartitionSample(0, 1_000 + self.lag, commit, member=None if self.nobody else f"m{number}")
            for number, commit in enumerate([] if self.blind else commits)
        }
        while self.during:
            self.during.pop()()
        now = self._clock()
        return {one.key: Reading(now, partitions, 0 if self.nobody else 4, gaps=dict(self.gaps)) for one in requests}

    def keep(self, groups: Sequence[str]) -> None:
        self.kept = list(groups)

    async def close(self) -> None:
        """Nothing is open."""


class FakeBridge:
    """A bridge that does as it is told, and once only for each request id."""

    def __init__(self) -> None:
        self.standing = Standing("orders", "off", 0.0, 1, False, None, False, 0)
        self.moves: list[Mapping[str, Any]] = []
        self.last: Move | None = None
        self.unreachable: BridgeError | None = None
        self.refusal: BridgeError | None = None
        self.lost: BridgeError | None = None
        """What a transition is answered with when it was carried out."""
        self.spared = ""
        """The action that is answered although others are `lost`."""
        self.looks = 0
        self.forgetful: BridgeError | None = None
        """What the question who moved it is answered with."""
        self.stuck: set[str] = set()
        """Requests that get no answer for now, by the names of the methods."""
        self.outlooks: list[tuple[str, float | None]] = []
        self._answers: dict[str, Done] = {}

    def move(self, stage: str, percent: float = 0.0, who: str = "admin", why: str = "", hold: bool = False) -> Place:
        """Move the service, as somebody does."""
        epoch = self.standing.epoch + 1
        self.standing = Standing("orders", stage, percent, epoch, hold, "2026-01-02T03:04:05Z", False, 0)
        self.last = Move(who, why, "2026-01-02T03:04:05Z", epoch)
        return Place(stage, percent, hold, epoch)

    async def standings(self) -> dict[str, Standing]:
        self.looks += 1
        await self._answer("standings")
        return {"orders": self.standing}

    async def last_move(self, service: str) -> Move | None:
        await self._answer("last_move")
        if self.forgetful is not None:
            raise self.forgetful
        return self.last

    async def transition(self, service: str, body: Mapping[str, Any]) -> Done:
        if self.unreachable is None:
            self.moves.append(dict(body))
        await self._answer("transition")
        if self.refusal is not None:
            raise self.refusal
        name = body["request_id"]
        if name in self._answers:
            before = self._answers[name]
            done = Done(before.after, changed=False, repeated=True, rollback=before.rollback)
        else:
            done = self._answers[name] = self._carry_out(body)
        if self.lost is not None and body["action"] != self.spared:
            raise self.lost
        return done

    def _carry_out(self, body: Mapping[str, Any]) -> Done:
        now = self.standing
        there = _height(now.stage, now.percent)
        if now.hold and body["action"] == "move" and _height(body["stage"], body.get("percent", 0.0)) > there:
            raise RequestRefusedError(422, "orders is held", ("hold: orders is held",))
        match body["action"]:
            case "move":
                after = self.move(body["stage"], body.get("percent", 0.0), "api:operator", body["reason"], now.hold)
            case "kill":
                after = self.move("off", 0.0, "api:operator", body["reason"], now.hold)
            case action:
                after = self.move(now.stage, now.percent, "api:operator", body["reason"], hold=action == "hold")
        return Done(after, changed=True, repeated=False, rollback="taskbridge cutover orders off")

    async def outlook(self, service: str, stage: str, percent: float | None) -> Outlook:
        await self._answer("outlook")
        self.outlooks.append((stage, percent))
        if stage == "mirror":
            # A copy takes no evidence.
            return Outlook(allowed=True, missing=(), verdict=None, sentence="")
        return Outlook(
            allowed=False, missing=("verdict: 40 more clean pairs",), verdict="INSUFFICIENT", sentence="40 more"
        )

    async def _answer(self, method: str) -> None:
        while method in self.stuck:
            await asyncio.sleep(0.005)
        if self.unreachable is not None:
            raise self.unreachable


def _height(stage: str, percent: float) -> tuple[int, float]:
    """Return how far on its way forward a service is."""
    return STAGES.index(stage), percent
