"""What people are shown of KafkaConsumers, written beside the decisions: none of these waits for it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lagscaler.controller import memory, shown
from lagscaler.controller.ports import KubernetesPort, RecorderPort
from lagscaler.controller.world import World
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.events import Notice
from lagscaler.kubernetes.kinds import CONSUMERS
from lagscaler.kubernetes.patches import changes
from lagscaler.policy.model import State
from lagscaler.resources.consumer import KafkaConsumer
from lagscaler.resources.reading import Key

logger = logging.getLogger(__name__)

NEWS_AT_ONCE = 8
"""Requests that tell what happened, at the same time: fewer than there may be, so that replicas find a free one."""

FIGURES_AT_ONCE = 4
"""The same for those that only bring figures up to date: what happened does not wait for these."""

NOTICES = 20
"""Notices of one resource that wait to be told; the oldest go, when the API server takes none for long."""


@dataclass(slots=True, eq=False)
class Page:
    """What people are to be shown of one KafkaConsumer."""

    key: Key
    uid: str
    about: memory.Subject
    saved: State | None
    """The policy's state that the status has."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The newest, whether or not it was written."""
    untried: bool = False
    """Whether nobody tried to write it yet."""
    learned: State | None = None
    """The policy's state in `status`, where that is another than the saved one."""
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=NOTICES))
    written_at: float = -math.inf
    busy: bool = False
    """Whether it is being written."""
    lines: set[asyncio.Queue[Page]] = field(default_factory=set)
    """Where it waits."""


class Publisher:
    """
    Writes statuses and events of KafkaConsumers, for each resource one after the other.

    A status that waits is replaced by a newer one. What happened is written at once. Figures alone, and what the policy
    learned from them, are written seldom and one resource after the other, so that they are no burst for the API
    server. What fails is tried again when there is something newer. `clock` returns seconds since the epoch.
    """

    def __init__(
        self, world: World, kubernetes: KubernetesPort, recorder: RecorderPort, clock: Callable[[], float]
    ) -> None:
        self._world = world
        self._kubernetes = kubernetes
        self._recorder = recorder
        self._clock = clock
        self._news: asyncio.Queue[Page] = asyncio.Queue()
        self._figures: asyncio.Queue[Page] = asyncio.Queue()
        self._pace = asyncio.Lock()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(NEWS_AT_ONCE):
                tasks.create_task(self._write_news(), name="news of consumers")
            for _ in range(FIGURES_AT_ONCE):
                tasks.create_task(self._write_figures(), name="figures of consumers")

    def tell(self, page: Page, notice: Notice) -> None:
        """Have a notice told."""
        if len(page.notices) == NOTICES:
            lost = page.notices[0]
            logger.warning("KafkaConsumer %s: no event tells %s: %s", page.key, lost.reason, lost.message)
        page.notices.append(notice)
        self._line_up(page)

    def show(self, page: Page, status: Mapping[str, Any], learned: State | None) -> None:
        """Have a status written where it says something new; `learned` is the policy's state that is new in it."""
        page.status, page.untried = status, True
        page.learned = learned or page.learned
        self._line_up(page)

    def _line_up(self, page: Page) -> None:
        line = self._line(page)
        if line is not None and line not in page.lines:
            page.lines.add(line)
            line.put_nowait(page)

    def _line(self, page: Page) -> asyncio.Queue[Page] | None:
        """Return where a page is to wait; None when nothing of it is to be written now."""
        if page.notices:
            return self._news
        consumer = self._current(page)
        if not page.untried or consumer is None or not changes(consumer.status, page.status):
            return None
        if shown.urgent(consumer.status, page.status):
            return self._news
        return self._figures if self._clock() - page.written_at >= shown.FIGURES_EVERY else None

    def _current(self, page: Page) -> KafkaConsumer | None:
        """Return the resource as it is now; None when it is gone, or about something else."""
        found = self._world.consumers.get(page.key)
        return found if found is not None and memory.subject(found) == page.about else None

    async def _write_news(self) -> None:
        while True:
            await self._write(await self._news.get(), self._news)

    async def _write_figures(self) -> None:
        while True:
            async with self._pace:
                page = await self._figures.get()
                await asyncio.sleep(shown.APART)
            await self._write(page, self._figures)

    async def _write(self, page: Page, line: asyncio.Queue[Page]) -> None:
        page.lines.discard(line)
        if page.busy:
            # Whoever writes it sees to what came meanwhile.
            return
        page.busy = True
        try:
            while page.notices:
                await self._tell(page, page.notices.popleft())
            # What was told may have been all; and what waited in one line may have been written from the other.
            if self._line(page) is not None:
                await self._show(page)
        except Exception:
            # A fault of ours: the next status may do better, and other consumers must not suffer.
            logger.exception("KafkaConsumer %s could not be shown", page.key)
        finally:
            page.busy = False
        self._line_up(page)

    async def _tell(self, page: Page, notice: Notice) -> None:
        consumer = self._world.consumers.get(page.key)
        if consumer is not None and consumer.uid == page.uid:
            await self._recorder.tell(CONSUMERS, page.key, page.uid, notice)

    async def _show(self, page: Page) -> None:
        consumer = self._current(page)
        if consumer is None:
            return
        now, status, learned = self._clock(), page.status, page.learned
        page.untried = False
        patch = changes(consumer.status, status)
        try:
            found = await self._kubernetes.patch_status(
                CONSUMERS, consumer.key, consumer.uid, patch, first=not consumer.status
            )
        except KubernetesError as error:
            logger.warning("the status of KafkaConsumer %s could not be written: %s", consumer.key, error)
            if error.gone:
                self._world.forget(CONSUMERS, consumer.key, consumer.uid)
            return
        page.written_at = now
        if learned is not None:
            page.saved = learned
            page.learned = None if page.learned is learned else page.learned
        if self._world.uid(CONSUMERS, consumer.key) == consumer.uid:
            self._world.see(CONSUMERS, None, found)
