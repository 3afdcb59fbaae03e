"""Statuses and events that are written beside the decisions, on a Kubernetes in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lagscaler.controller import memory, publishing
from lagscaler.controller.publishing import Page, Publisher
from lagscaler.controller.world import World
from lagscaler.kubernetes import api
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.events import Notice
from lagscaler.kubernetes.kinds import CONSUMERS
from lagscaler.policy.model import State
from lagscaler.resources.reading import Key
from tests.unit.lagscaler.builders import consumer_body
from tests.unit.lagscaler.fakes import FakeKubernetes, FakeRecorder, until


class Press:
    """A publisher, with all around it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.kubernetes = FakeKubernetes()
        self.recorder = FakeRecorder()
        self.world = self.kubernetes.world = World(lambda *_: None)
        self.publisher = Publisher(self.world, self.kubernetes, self.recorder, lambda: self.now)

    def page(self, name: str = "orders", **meta: Any) -> Page:
        """Return the page of a new KafkaConsumer."""
        self.kubernetes.put(CONSUMERS, consumer_body(name, meta=meta or None))
        consumer = self.world.consumers[Key("shop", name)]
        return Page(consumer.key, consumer.uid, memory.subject(consumer), None)

    async def shown(self, count: int = 1, lag: int = 0) -> list[Page]:
        """Return pages of new KafkaConsumers, each with a status that is written, whose figures are due."""
        pages = [self.page(f"c{number}") for number in range(count)]
        for page in pages:
            self.publisher.show(page, {"reason": "Steady", "lag": lag}, None)
        await until(lambda: len(self.kubernetes.patches) == count, "the first statuses are written")
        self.now += 10
        return pages

    async def telling(self) -> Page:
        """Return the page of a new KafkaConsumer about which `First` is being told, for as long as that is stuck."""
        page = self.page()
        self.recorder.stuck = True
        self.publisher.tell(page, notice("First"))
        await until(lambda: self.recorder.told, "the first is being told")
        return page

    def status(self, name: str = "c0") -> dict[str, Any]:
        """Return what is written."""
        return self.kubernetes.status(CONSUMERS, name)

    async def turns(self) -> None:
        """Let everything that can be done be done."""
        for _ in range(100):
            await asyncio.sleep(0)


def play(part: Callable[[Press], Awaitable[None]]) -> None:
    """Play a part while the publisher works."""

    async def whole() -> None:
        press = Press()
        work = asyncio.create_task(press.publisher.run())
        try:
            await part(press)
            assert not work.done(), work.result()
        finally:
            work.cancel()
            await asyncio.wait({work})

    asyncio.run(whole())


def notice(reason: str = "ScaledUp", message: str = "1 → 4") -> Notice:
    return Notice("Normal", reason, message)


def test_the_newest_of_those_that_waited_is_written_and_no_other() -> None:
    async def part(press: Press) -> None:
        [page] = await press.shown()
        press.kubernetes.stuck = {"patch_status"}
        for replicas in (2, 3, 4):
            press.publisher.show(page, {"reason": "Steady", "replicas": replicas}, None)
            await press.turns()
        press.kubernetes.stuck = set()
        await until(lambda: press.status().get("replicas") == 4, "the newest is written")
        await press.turns()
        assert [patch.get("replicas") for _, patch in press.kubernetes.patches] == [None, 2, 4]

    play(part)


def test_statuses_and_events_of_one_resource_are_written_one_after_the_other() -> None:
    async def part(press: Press) -> None:
        page = await press.telling()
        press.publisher.show(page, {"reason": "Steady"}, None)
        press.publisher.tell(page, notice("Second"))
        await press.turns()
        assert press.recorder.reasons("orders") == ["First"]
        assert press.kubernetes.patches == []
        press.recorder.stuck = False
        await until(lambda: press.kubernetes.patches, "the status is written")
        assert press.recorder.reasons("orders") == ["First", "Second"]

    play(part)


def test_one_that_waits_in_both_lines_is_not_written_twice_at_the_same_time() -> None:
    async def part(press: Press) -> None:
        [page] = await press.shown()
        write = press.kubernetes.patch_status
        under_way: list[int] = [0]

        async def counted(*args: Any, **options: Any) -> dict[str, Any]:
            under_way.append(under_way[-1] + 1)
            found = await write(*args, **options)
            under_way.append(under_way[-1] - 1)
            return found

        press.kubernetes.patch_status = counted  # type: ignore[method-assign]
        press.kubernetes.stuck = {"patch_status"}
        press.publisher.show(page, {"reason": "Steady", "lag": 1}, None)
        press.publisher.show(page, {"reason": "Behind", "lag": 2}, None)
        assert len(page.lines) == 2
        await until(lambda: page.busy and not page.lines, "both lines came to it")
        press.publisher.show(page, {"reason": "Steady", "lag": 3}, None)
        await until(lambda: not page.lines, "it had its turn once more")
        press.kubernetes.stuck = set()
        await until(lambda: press.status() == {"reason": "Steady", "lag": 3}, "the newest is written")
        assert max(under_way) == 1

    play(part)


def test_figures_wait_until_they_are_due_and_what_happened_does_not() -> None:
    async def part(press: Press) -> None:
        [page] = await press.shown()
        press.publisher.show(page, {"reason": "Steady", "lag": 1}, None)
        await until(lambda: press.status()["lag"] == 1, "figures that are due are written")
        press.now += 7
        press.publisher.show(page, {"reason": "Steady", "lag": 2}, None)
        press.publisher.tell(page, notice())
        await until(lambda: press.recorder.told, "an event is told")
        await until(lambda: not page.busy, "it was told")
        assert (page.lines, len(press.kubernetes.patches)) == (set(), 2)
        press.publisher.show(page, {"reason": "Behind", "lag": 3}, None)
        await until(lambda: press.status() == {"reason": "Behind", "lag": 3}, "what happened is written")

    play(part)


def test_what_was_learned_goes_with_the_figures_and_is_not_forgotten() -> None:
    async def part(press: Press) -> None:
        [page] = await press.shown()
        learned = State(capacity=7.0)
        press.now -= 9
        press.publisher.show(page, {"reason": "Steady", "policy": "learned"}, learned)
        assert (page.lines, page.saved) == (set(), None)
        press.now += 9
        press.kubernetes.broken = KubernetesError(0, "away")
        press.publisher.show(page, {"reason": "Steady", "policy": "learned"}, None)
        await until(lambda: not page.untried, "it is tried")
        await press.turns()
        assert page.saved is None
        press.kubernetes.broken = None
        press.publisher.show(page, {"reason": "Steady", "policy": "learned"}, None)
        await until(lambda: press.status().get("policy") == "learned", "it is written")
        assert (page.saved, page.learned) == (learned, None)

    play(part)


def test_what_is_learned_while_the_status_is_written_is_still_to_be_saved() -> None:
    async def part(press: Press) -> None:
        page = press.page()
        first, second = State(capacity=7.0), State(capacity=8.0)
        write = press.kubernetes.patch_status
        saved = []

        async def late(*args: Any, **options: Any) -> dict[str, Any]:
            saved.append(page.saved)
            if len(saved) == 1:
                press.publisher.show(page, {"reason": "Behind"}, second)
            return await write(*args, **options)

        press.kubernetes.patch_status = late  # type: ignore[method-assign]
        press.publisher.show(page, {"reason": "Steady"}, first)
        await until(lambda: page.saved == second, "the second is written")
        assert saved == [None, first]
        assert page.learned is None
        assert press.status("orders") == {"reason": "Behind"}

    play(part)


def test_figures_that_get_no_answer_hold_up_nothing_that_happened() -> None:
    async def part(press: Press) -> None:
        pages = await press.shown(40)
        press.kubernetes.stuck = {"patch_status"}
        for page in pages[1:]:
            press.publisher.show(page, {"reason": "Steady", "lag": 1}, None)
        await until(lambda: sum(page.busy for page in pages) == publishing.FIGURES_AT_ONCE, "all lines are taken")
        press.publisher.tell(pages[0], notice())
        await until(lambda: press.recorder.told, "an event is told")
        # The line of those that wait for their turn has it already.
        waiting = next(page for page in pages[1:] if not page.busy)
        press.publisher.show(waiting, {"reason": "Behind", "lag": 2}, None)
        await until(lambda: waiting.busy, "what happened is being written")
        press.kubernetes.stuck = set()
        await until(lambda: not any(page.untried or page.busy for page in pages), "all are written")
        await until(lambda: not any(page.lines for page in pages), "no line has anybody")
        assert press.status(waiting.key.name) == {"reason": "Behind", "lag": 2}
        assert len(press.kubernetes.patches) == 2 * len(pages) - 1

    play(part)


def test_what_is_shown_leaves_requests_for_replicas() -> None:
    assert publishing.NEWS_AT_ONCE + publishing.FIGURES_AT_ONCE < api.AT_ONCE


def test_figures_of_many_are_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lagscaler.controller.shown.APART", 0.02)

    async def part(press: Press) -> None:
        pages = await press.shown(20)
        began = time.monotonic()
        for page in pages:
            press.publisher.show(page, {"reason": "Steady", "lag": 1}, None)
        await until(lambda: len(press.kubernetes.patches) == 40, "all are written")
        assert time.monotonic() - began >= 20 * 0.02

    play(part)


def test_what_fails_is_tried_again_with_the_next_one_only() -> None:
    async def part(press: Press) -> None:
        page = press.page()
        tries = 0
        write = press.kubernetes.patch_status

        async def failing(*args: Any, **options: Any) -> dict[str, Any]:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise KubernetesError(0, "away")
            if tries == 2:
                raise ZeroDivisionError
            return await write(*args, **options)

        press.kubernetes.patch_status = failing  # type: ignore[method-assign]
        for wanted in (1, 2, 3):
            press.publisher.show(page, {"reason": "Steady"}, None)
            await until(lambda: not page.untried and not page.busy, "it is tried")
            await press.turns()
            assert tries == wanted
        assert press.status("orders") == {"reason": "Steady"}

    play(part)


def test_the_oldest_of_too_many_events_are_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def part(press: Press) -> None:
        page = await press.telling()
        for number in range(publishing.NOTICES + 5):
            press.publisher.tell(page, notice(f"N{number}"))
        press.recorder.stuck = False
        await until(lambda: not page.notices and not page.busy, "all are told")
        assert press.recorder.reasons("orders") == ["First", *(f"N{number}" for number in range(5, 25))]

    play(part)
    lost = [record.getMessage() for record in caplog.records if "no event tells" in record.getMessage()]
    assert lost == [f"KafkaConsumer shop/orders: no event tells N{number}: 1 → 4" for number in range(5)]


def test_nothing_is_written_about_what_is_gone() -> None:
    async def part(press: Press) -> None:
        page = await press.telling()
        press.publisher.tell(page, notice("Second"))
        press.publisher.show(page, {"reason": "Steady"}, None)
        press.page(uid="heir")
        press.recorder.stuck = False
        await until(lambda: not page.notices and not page.busy, "the publisher is through")
        assert press.recorder.reasons("orders") == ["First"]
        assert press.kubernetes.patches == []
        assert press.status("orders") == {}

    play(part)


def test_one_that_is_about_something_else_now_gets_its_events_and_not_its_status() -> None:
    async def part(press: Press) -> None:
        page = await press.telling()
        press.publisher.tell(page, notice("Second"))
        press.publisher.show(page, {"reason": "Steady"}, None)
        press.kubernetes.change(CONSUMERS, "orders", group="another")
        press.recorder.stuck = False
        await until(lambda: not page.notices and not page.busy, "the publisher is through")
        assert press.recorder.reasons("orders") == ["First", "Second"]
        assert press.kubernetes.patches == []

    play(part)


@pytest.mark.parametrize("heir", [False, True])
def test_what_the_api_server_does_not_have_any_more_is_forgotten_but_not_its_heir(heir: bool) -> None:
    async def part(press: Press) -> None:
        page = press.page()

        async def gone(*_: Any, **__: Any) -> dict[str, Any]:
            if heir:
                press.page(uid="heir")
            raise KubernetesError(404, "it is gone")

        press.kubernetes.patch_status = gone  # type: ignore[method-assign]
        press.publisher.show(page, {"reason": "Steady"}, None)
        await until(lambda: not page.untried and not page.busy, "it is tried")
        assert [found.uid for found in press.world.consumers.values()] == (["heir"] if heir else [])

    play(part)
