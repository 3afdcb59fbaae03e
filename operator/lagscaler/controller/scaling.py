"""The loops that scale: Kafka is looked at, each consumer is decided on, and what is to be written is written."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lagscaler.controller import memory
from lagscaler.controller.consumer import Held, Look, Plan, floor, plan
from lagscaler.controller.ports import KubernetesPort, RecorderPort, SamplerPort
from lagscaler.controller.publishing import Page, Publisher
from lagscaler.controller.verdicts import Surroundings
from lagscaler.controller.world import World
from lagscaler.kafka.sampler import Reading, Request
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.kinds import CONSUMERS, DEPLOYMENTS
from lagscaler.metrics import Metrics
from lagscaler.policy.decide import decide
from lagscaler.policy.document import worth_saving
from lagscaler.policy.history import History
from lagscaler.policy.model import PartitionState, Sample, Spec, State
from lagscaler.resources.consumer import KafkaConsumer
from lagscaler.resources.reading import Key, version_of

logger = logging.getLogger(__name__)

TICK = 0.2
"""Seconds between two looks at who is due."""

TIMES_EVERY = 30.0
"""Seconds between two questions for the age of the first unread record, where the history is too short to tell it."""

TURN = 20
"""Decisions after which others have their turn on the event loop."""


@dataclass(slots=True)
class Track:
    """What is kept of one KafkaConsumer between two looks."""

    about: memory.Subject
    state: State
    page: Page
    history: History
    held: Held
    due: float
    look: Look | None = None
    basis: tuple[Spec, State] | None = None
    """What the last decision was made of, besides the history."""
    busy: bool = False
    """Whether a look at Kafka is under way, or what follows from it."""
    planned: Mapping[str, Any] | None = None
    """The last status that was planned: what is new is told by it."""
    times_at: float = -math.inf
    sampled_at: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Scaling:
    """
    All KafkaConsumers of one process.

    `stage_of` returns the stage of a bridge's service, None when it is not known. `clock` returns seconds since the
    epoch. One cluster's trouble, or one resource's, does not hold up another's.
    """

    def __init__(
        self,
        world: World,
        kubernetes: KubernetesPort,
        recorder: RecorderPort,
        metrics: Metrics,
        stage_of: Callable[[str, str], str | None],
        clock: Callable[[], float],
    ) -> None:
        self.samplers: dict[str, SamplerPort] = {}
        """By the name of the cluster; whoever reads the settings puts them here."""
        self._world = world
        self._kubernetes = kubernetes
        self._publisher = Publisher(world, kubernetes, recorder, clock)
        self._metrics = metrics
        self._stage_of = stage_of
        self._clock = clock
        self._tracks: dict[Key, Track] = {}
        self._changed: set[Key] = set()
        self._faulty: dict[Key, int] = {}
        """Consumers that were found to be beyond what we can deal with, with the version at which that was logged."""
        self._wake = asyncio.Event()
        self.alive_at = clock()
        """When the loop that looks who is due last did so."""

    def changed(self, key: Key) -> None:
        """Look at a consumer again as soon as may be: it, or its surroundings, changed."""
        self._changed.add(key)
        self._wake.set()

    def recall(self, key: Key) -> tuple[Spec, Sequence[Sample], State] | None:
        """Return what the last decision on a consumer was made of, None when there is no such consumer."""
        consumer, track = self._world.consumers.get(key), self._tracks.get(key)
        if consumer is None or track is None:
            return None
        spec, state = track.basis or (floor(consumer, self._stage(consumer)), track.state)
        return spec, track.history, state

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publisher.run(), name="what is shown of consumers")
            tasks.create_task(self._follow_changes(tasks), name="changes of consumers")
            while True:
                self.alive_at = now = self._clock()
                for cluster, due in self._due(now).items():
                    tasks.create_task(self._look(cluster, due, now), name=f"look at {cluster}")
                await asyncio.sleep(TICK)

    async def _follow_changes(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            keys, self._changed = self._changed, set()
            for key in keys:
                tasks.create_task(self._settle(key), name=f"settle {key}")

    async def _settle(self, key: Key) -> None:
        """Bring a consumer in line with what is known, without a new look at Kafka."""
        consumer = self._world.consumers.get(key)
        if consumer is not None:
            await self._deal(consumer)
            return
        self._faulty.pop(key, None)
        if (track := self._tracks.pop(key, None)) is not None:
            # What is under way would make the series again.
            async with track.lock:
                pass
        if key not in self._world.consumers:
            self._metrics.forget_consumer(key.namespace, key.name)

    async def _deal(self, consumer: KafkaConsumer, track: Track | None = None) -> None:
        """Carry out what is to be done about a consumer; with its track, that was just decided on."""
        try:
            await self._carry_out(consumer, track or self._track(consumer), fresh=track is not None)
        except Exception:  # noqa: BLE001 - it is logged
            self._fault(consumer)

    def _fault(self, consumer: KafkaConsumer) -> None:
        """Log a fault of ours, once for each version: the next look may do better, and others must not suffer."""
        if consumer.key in self._world.consumers:
            self._metrics.ready.labels(consumer.key.namespace, consumer.key.name).set(0)
        if self._faulty.get(consumer.key) != consumer.version:
            self._faulty[consumer.key] = consumer.version
            logger.exception("KafkaConsumer %s could not be dealt with", consumer.key)

    def _track(self, consumer: KafkaConsumer) -> Track:
        """Return what is kept of a consumer, made anew when it is about something else now."""
        track = self._tracks.get(consumer.key)
        about = memory.subject(consumer)
        if track is None or track.about != about:
            now = self._clock()
            saved = memory.remembered(consumer)
            state = saved or State()
            if state.last_complete is not None:
                # Nobody looked while the operator was away, which is no failure of Kafka's.
                state = replace(state, last_complete=max(state.last_complete, now))
            off = any(one.get("reason") == "SwitchedOff" for one in consumer.status.get("conditions") or ())
            page = Page(consumer.key, consumer.uid, about, saved)
            track = Track(about, state, page, History(consumer.policy.window), Held(off=off), due=now)
            self._tracks[consumer.key] = track
        track.history.window = consumer.policy.window
        return track

    def _due(self, now: float) -> dict[str, list[KafkaConsumer]]:
        """Return whom to look at now, by cluster, and when they are due next: all of one period at the same time."""
        found: dict[str, list[KafkaConsumer]] = {}
        for key, consumer in self._world.consumers.items():
            try:
                track = self._due_now(consumer, now)
            except Exception:  # noqa: BLE001 - it is logged
                self._fault(consumer)
                continue
            if track is None:
                continue
            usable = consumer.cluster in self.samplers and self._world.may_use_cluster(consumer)
            if usable and self._world.target_of(consumer) is not None:
                track.busy = True
                found.setdefault(consumer.cluster, []).append(consumer)
            else:
                self.changed(key)
        return found

    def _due_now(self, consumer: KafkaConsumer, now: float) -> Track | None:
        """Return what is kept of a consumer that is due, which is not due again for a period; None when it is not."""
        track = self._tracks.get(consumer.key)
        if track is None or track.about != memory.subject(consumer):
            track = self._track(consumer)
        period = consumer.policy.poll
        if track.due > now + period:
            # The clock was set back, or the period became shorter.
            track.due = now
        if track.busy or track.due > now:
            return None
        track.due = (math.floor(now / period) + 1) * period
        return track

    async def _look(self, cluster: str, consumers: list[KafkaConsumer], due: float) -> None:
        """Look at Kafka for some consumers of one cluster, and decide on each."""
        busy = {one.key: track for one in consumers if (track := self._tracks.get(one.key)) is not None}
        try:
            began = self._clock()
            requests = [self._request(consumer, began) for consumer in consumers]
            readings = await self.samplers[cluster].sample(requests)
            self._metrics.sample_seconds.labels(cluster).observe(max(0.0, self._clock() - began))
            decided = []
            for number, consumer in enumerate(consumers, 1):
                if (reading := readings.get(consumer.key)) is not None and (track := self._decide(consumer, reading)):
                    decided.append((consumer, track))
                else:
                    _free(busy, consumer.key)
                if number % TURN == 0:
                    await asyncio.sleep(0)
            self._metrics.decision_delay_seconds.labels(cluster).observe(max(0.0, self._clock() - due))
            await asyncio.gather(*(self._finish(consumer, track, busy) for consumer, track in decided))
        except Exception:
            # A fault of ours: the next look may do better, and other clusters must not suffer.
            logger.exception("the look at the Kafka cluster %s failed", cluster)
        finally:
            for key in tuple(busy):
                _free(busy, key)

    async def _finish(self, consumer: KafkaConsumer, track: Track, busy: dict[Key, Track]) -> None:
        """Carry out what was decided on a consumer; replicas that are slow to write hold up its own next look alone."""
        await self._deal(consumer, track)
        _free(busy, consumer.key)

    def _request(self, consumer: KafkaConsumer, now: float) -> Request:
        track = self._track(consumer)
        behind = track.look.decision.behind if track.look else 0.0
        seen_for = now - track.history[0].at if track.history else 0.0
        want_times = not track.history or (0 < seen_for <= behind and now - track.times_at >= TIMES_EVERY)
        if want_times:
            track.times_at = now
        return Request(
            consumer.key,
            consumer.group,
            consumer.topics,
            consumer.read_committed,
            consumer.policy.offset_reset,
            want_times,
        )

    def _decide(self, consumer: KafkaConsumer, reading: Reading) -> Track | None:
        """Decide on a consumer; return what is kept of it, None when there is nothing to carry out."""
        # What was asked for may have changed, or gone, while Kafka was asked.
        current = self._world.consumers.get(consumer.key)
        if current is None or memory.subject(current) != memory.subject(consumer):
            return None
        target = self._world.target_of(current)
        if target is None:
            return None
        try:
            track = self._track(current)
            track.history.add(reading.sample(target.replicas, target.ready))
            track.basis = spec, state = floor(current, self._stage(current)), track.state
            decision = decide(track.history, spec, state)
        except Exception:  # noqa: BLE001 - it is logged
            self._fault(current)
            return None
        track.state = decision.state
        uncommitted = sum(one.committed is None for one in reading.partitions.values())
        track.look = Look(decision, reading.gaps, len(reading.partitions), uncommitted)
        self._count(current, track, reading.at)
        return track

    async def _carry_out(self, consumer: KafkaConsumer, track: Track, *, fresh: bool) -> None:
        """Write replicas, which is tried again at the next look when it fails; what is to be shown is written later."""
        async with track.lock:
            current = self._world.consumers.get(consumer.key)
            if current is None or memory.subject(current) != track.about:
                return
            around = self._around(current)
            now = self._clock()
            seen = replace(current, status=track.planned) if track.planned is not None else current
            planned = plan(seen, around, track.held, track.look, now, fresh=fresh)
            track.held = planned.held
            status = planned.status
            for notice in planned.notices:
                self._publisher.tell(track.page, notice)
            if planned.write is not None and await self._write(current, track, planned, planned.write):
                status["lastScale"] = dict(planned.last_scale)
            saved = track.page.saved
            learned = track.state if track.look and (saved is None or worth_saving(saved, track.state)) else None
            if learned is not None:
                status["policy"] = memory.document(current, learned)
            track.planned = status
            self._gauge(current, status)
            self._publisher.show(track.page, status, learned)

    async def _write(self, consumer: KafkaConsumer, track: Track, planned: Plan, replicas: int) -> bool:
        """Write the replicas of the Deployment; return whether that was done."""
        target = self._world.target_of(consumer)
        if target is None:
            return False
        if not await self._still_asks(consumer):
            track.held = replace(track.held, unsure=True)
            return False
        uid = self._world.uid(DEPLOYMENTS, target.key)
        try:
            scale = await self._kubernetes.scale(target.key, replicas)
        except KubernetesError as error:
            logger.warning("KafkaConsumer %s: %s → %d failed: %s", consumer.key, target.replicas, replicas, error)
            self._refused(consumer, track, str(error) if error.refused else track.held.refused)
            track.held = replace(track.held, unsure=True)
            if error.status == 404:
                self._world.forget(DEPLOYMENTS, target.key, uid)
            return False
        self._refused(consumer, track, "")
        version = max(version_of(scale), target.version)
        self._world.scaled(replace(target, replicas=replicas, version=version, writer=""))
        names = (consumer.key.namespace, consumer.key.name)
        direction = "up" if replicas > target.replicas else "down"
        self._metrics.scale_changes.labels(*names, direction).inc()
        if planned.overwrites:
            self._metrics.replicas_overwritten.labels(*names).inc()
        if planned.scaled is not None:
            self._publisher.tell(track.page, planned.scaled)
        return True

    async def _still_asks(self, consumer: KafkaConsumer) -> bool:
        """Return whether a KafkaConsumer is as it was when that was decided: what the watch tells may come late."""
        try:
            body = await self._kubernetes.one(CONSUMERS, consumer.key)
        except KubernetesError as error:
            logger.warning("KafkaConsumer %s: nothing is scaled: %s", consumer.key, error)
            if error.gone:
                self._world.forget(CONSUMERS, consumer.key, consumer.uid)
            return False
        if self._world.uid(CONSUMERS, consumer.key) != consumer.uid:
            # It went while it was read, and would be there for ever again.
            return False
        self._world.see(CONSUMERS, None, body)
        metadata = body["metadata"]
        return (metadata["uid"], metadata["generation"]) == (consumer.uid, consumer.generation)

    def _refused(self, consumer: KafkaConsumer, track: Track, sentence: str) -> None:
        """Hold on to what the API server said against the last write; empty: nothing."""
        if bool(sentence) != bool(track.held.refused):
            # The status that is about to be written does not know it.
            self.changed(consumer.key)
        track.held = replace(track.held, refused=sentence)

    def _around(self, consumer: KafkaConsumer) -> Surroundings:
        return Surroundings(
            target=self._world.target_of(consumer),
            claims=self._world.claims_on(consumer),
            elder=self._world.elder(consumer),
            cluster_known=consumer.cluster in self.samplers,
            admitted=self._world.may_use_cluster(consumer),
            stage=self._stage(consumer),
        )

    def _stage(self, consumer: KafkaConsumer) -> str | None:
        if consumer.service is None or consumer.bridge is None:
            return None
        if not self._world.may_use_bridge(consumer.key.namespace, consumer.bridge):
            return None
        return self._stage_of(consumer.bridge, consumer.service)

    def _count(self, consumer: KafkaConsumer, track: Track, at: float) -> None:
        """Count one look."""
        look, metrics = track.look, self._metrics
        if look is None:
            return
        decision, names = look.decision, (consumer.key.namespace, consumer.key.name)
        metrics.decisions.labels(*names, str(decision.reason)).inc()
        for gap in look.gaps:
            metrics.sample_errors.labels(*names, str(gap)).inc()
        if not look.gaps:
            metrics.lag_records.labels(*names).set(decision.lag)
            metrics.lag_seconds.labels(*names).set(decision.behind)
        if decision.arrival_rate is not None:
            metrics.arrival_rate.labels(*names).set(decision.arrival_rate)
        if decision.capacity is not None:
            metrics.capacity_per_replica.labels(*names).set(decision.capacity)
        since = at - track.sampled_at if track.sampled_at is not None else 0.0
        if decision.behind > consumer.policy.latency:
            metrics.slo_violation_seconds.labels(*names).inc(max(0.0, since))
        track.sampled_at = at
        if look.partitions:
            # Where nothing was seen, what was seen last stands.
            states = Counter(decision.partitions.values())
            states[PartitionState.OK] = look.partitions - states.total()
            for state in PartitionState:
                metrics.partitions.labels(*names, str(state)).set(states[state])
        metrics.metrics_fresh.labels(*names).set(not look.gaps)
        metrics.slo_seconds.labels(*names).set(consumer.policy.latency)

    def _gauge(self, consumer: KafkaConsumer, status: Mapping[str, Any]) -> None:
        """Show what the status says."""
        names = (consumer.key.namespace, consumer.key.name)
        metrics = self._metrics
        target = self._world.target_of(consumer)
        if target is not None:
            metrics.replicas.labels(*names).set(target.replicas)
        if "desiredReplicas" in status:
            metrics.desired_replicas.labels(*names).set(status["desiredReplicas"])
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())
        metrics.ready.labels(*names).set(ready)


def _free(busy: dict[Key, Track], key: Key) -> None:
    """Let one of those that are being looked at be looked at again."""
    if (track := busy.pop(key, None)) is not None:
        track.busy = False
