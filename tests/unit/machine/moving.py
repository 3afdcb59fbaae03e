"""How a world's flag moves: by the product's rules, with the locks and the keeper of ordered services played."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from taskbridge.contrib.django import fences, rules
from taskbridge.contrib.django.rules import Request, Standing
from taskbridge.cutover import Fence, Flag, Stage
from taskbridge.exceptions import BrokerUnavailable, TransitionRefused
from taskbridge.routing import bucket
from taskbridge.settings import Settings
from tests.unit.machine.database import Database
from tests.unit.machine.journal import Journal
from tests.unit.machine.servers import Celery, Clock, Kafka
from tests.unit.machine.workers import Group

SERVICE = "orders"


class Moving:
    """The part of a world that moves its service."""

    settings: Settings
    ordered: bool
    clock: Clock
    database: Database
    kafka: Kafka
    celery: Celery
    journal: Journal
    group: Group
    moved_at: float

    def move(self, stage: Stage | None = None, points: int = 0, **request: Any) -> bool:
        """Move a flag by the rules of a transition; return False when it is refused, or cannot be written."""
        action = request.pop("action", "move")
        asked = Request(
            service=SERVICE,
            action=action,
            stage=stage,
            basis_points=points,
            who="me",
            override=True,
            why="tried out",
            **request,
        )
        try:
            rules.check(asked, self.settings)
            if not self.database.available or self.database.shared.get(SERVICE):
                return False
            self._transition(asked)
        except TransitionRefused:
            return False
        return True

    def _transition(self, asked: Request) -> None:
        database = self.database
        tasks = {task: flag for (_, task), flag in database.flags.items() if task}
        now = Standing(database.flag(SERVICE), tasks=tasks)
        before = now.of(asked.task)
        after = rules.aim(asked, now)
        if any(not one.ok and not one.overridable for one in rules.conditions(asked, now, after)):
            raise TransitionRefused("a rule stands against it")
        if after.stage is Stage.COMPLETE and before.stage is not Stage.COMPLETE:
            self._check_complete(now)
        if self.ordered:
            moved = fences.on_kafka(before) != fences.on_kafka(after)
            if moved and before.stage in {Stage.MIRROR, Stage.SHADOW}:
                self._check_known()
            if moved:
                database.hold(SERVICE)
                after = replace(after, fence=fences.after_move(before, after))
        if after != before:
            database.put(after)
            self.moved_at = self.clock.now
        for own in now.pinned().values() if asked.action == "kill" else ():
            database.put(replace(own, stage=Stage.OFF, basis_points=0, hold=False, cleared=True))

    def _check_complete(self, now: Standing) -> None:
        if now.pinned() or not self.celery.empty:
            raise TransitionRefused("Celery still has something to do")

    def _check_known(self) -> None:
        if self.clock.now - self.moved_at < self.settings.flag_stale_after:
            raise TransitionRefused("a process may not know yet that the service is ordered")

    # A relay's Keeper

    def lift(self) -> None:
        """Let the fence of an ordered service go a step, as the real keeper does."""
        flag = self.database.flag(SERVICE)
        if flag.fence is None or not self.database.available or self.database.shared.get(SERVICE):
            return
        fence = flag.fence
        rows = [row for row in self.database.rows["outbox"].values() if row.pending.service == SERVICE]
        if not fence.sides:
            if not rows:
                self.database.put(replace(flag, fence=None), epoch=False)
        elif not self._is_left(flag, fence):
            released = self.database.turn(SERVICE, "held", "any")
            after = replace(fence, sides=frozenset()) if released or rows else None
            self.database.put(replace(flag, fence=after), epoch=False)

    def _is_left(self, flag: Flag, fence: Fence) -> bool:
        """Return whether something is left of the keys that change side where they were."""
        roads = {road for side in fence.sides for road in (side, f"{side}-again")}
        if any(row.pending.road in roads for row in self.database.rows["outbox"].values()):
            return True
        if "kafka" in fence.sides:
            if self.kafka.away:
                raise BrokerUnavailable("Kafka is away")
            if fence.offsets is None:
                known = replace(flag, fence=replace(fence, offsets=self.group.ends()))
                self.database.flags[SERVICE, ""] = known
                return True
            if self.group.unfinished(fence.offsets):
                return True
        deliveries = [*self.celery.queue, *self.celery.unacknowledged.values()]
        keys = [self.journal.calls[one.message.task_id].key for one in deliveries]
        return "celery" in fence.sides and any(fence.covers(self.bucket(key)) for key in keys)

    def bucket(self, key: str) -> int:
        """Return the bucket of a key."""
        return bucket(self.settings.salt, key)
