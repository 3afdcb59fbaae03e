"""Publishing behind a barrier, in the caller's transaction, and when there is no Celery left to fall back to."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher, Outgoing, barrier
from taskbridge.dispatch.barrier import MOST_UNCONFIRMED, finish_all
from taskbridge.dispatch.barrier import barrier as scope
from taskbridge.exceptions import (
    BrokerUnavailable,
    ConfigurationError,
    MessageTooLarge,
    PublishAmbiguous,
    PublishError,
    PublishRefused,
    StoreUnavailable,
)
from taskbridge.observation import DispatchRow
from taskbridge.record import Message, Record, decode
from taskbridge.settings import ServiceSettings
from taskbridge.testing import FakeFlags, FakePending, FakePublisher, FakeResender, RecordingObserver, settings

NOW = 1_760_000_000.0


class SlowPublisher(FakePublisher):
    """Nothing is reported on before its end; `outcomes` says what becomes of a task id."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, PublishError] = {}
        self.ends: list[tuple[int, float | None]] = []
        self.interrupt: BaseException | None = None

    def publish(self, topic: str, record: Record) -> None:
        super().publish(topic, record)
        if error := self.outcomes.get(_id(record)):
            raise error

    def begin(self, topic: str, record: Record) -> Any:
        super().publish(topic, record)
        return _id(record)

    def end(self, begun: Sequence[Any], timeout: float | None = None) -> list[PublishError | None]:
        self.ends.append((len(begun), timeout))
        if self.interrupt is not None and timeout is None:
            raise self.interrupt
        return [self.outcomes.get(one) for one in begun]


def _id(record: Record) -> str:
    return decode(record.value, record.headers)[0].task_id


class Road:
    """A dispatcher among doubles for one live service."""

    def __init__(self, publish: Any, stage: Stage = Stage.LIVE, **service: Any) -> None:
        options = {"breaker_seconds": 5.0, "max_message_bytes": 10_000}
        self.settings = settings(ServiceSettings("orders", tasks=("orders.*",), publish=publish, **service), **options)
        self.service = self.settings.services["orders"]
        self.flags = FakeFlags()
        self.flags.set("orders", stage, 10_000 if stage is Stage.LIVE else 0)
        self.kafka, self.pending = SlowPublisher(), FakePending()
        self.observer, self.resender = RecordingObserver(), FakeResender()
        self.celery: list[str] = []
        self.dispatcher = Dispatcher(
            self.settings,
            FlagCache(self.flags, {"orders": Stage.OFF}, lambda: 0.0, max_age=0.0),
            self.kafka,
            FakePublisher(),
            self.pending,
            self.observer,
            wall=lambda: NOW,
            clock=lambda: 0.0,
            resender=self.resender,
            callers=self.pending,
        )

    def send_many(self, *task_ids: str, error: BaseException | None = None) -> None:
        """Send all in one barrier, and raise `error` before its end."""
        with scope():
            for task_id in task_ids:
                self.send(task_id)
            if error is not None:
                raise error

    def send(self, task_id: str = "id-1", size: int = 10, **changes: Any) -> Any:
        message = Message("orders.place", task_id, b"x" * size, "application/json", "utf-8", b"{}", b"{}")
        unsupported: Callable[[], str] = changes.pop("unsupported", lambda: "")
        outgoing = Outgoing(
            self.service, "orders.place", task_id, 0, 0, task_id, message.body,
            lambda: self.celery.append(task_id), lambda: message, unsupported, publish=self.service.publish,
        )  # fmt: skip
        for name, value in changes.items():
            setattr(outgoing, name, value)
        return self.dispatcher.dispatch(self.dispatcher.flag("orders"), outgoing)

    @property
    def rows(self) -> list[DispatchRow]:
        return [row for row in self.observer.rows if isinstance(row, DispatchRow)]

    @property
    def counts(self) -> dict[str, int]:
        return self.dispatcher.counters.snapshot().get("orders", {})

    def outboxed(self) -> list[tuple[str, str, int]]:
        return [(row.message.task_id, row.road, row.attempts) for row in self.pending.outboxed]


@pytest.fixture
def road() -> Road:
    return Road("barrier")


# Barriers


def test_a_barrier_waits_once_for_all_and_then_observes(road: Road) -> None:
    with scope():
        for number in range(5):
            assert road.send(f"id-{number}") is None
        assert (len(road.kafka.records), road.kafka.ends, road.rows) == (5, [], [])
    assert road.kafka.ends == [(5, None)]
    assert [(row.id, row.route, row.seq) for row in road.rows] == [(f"id-{n}", "kafka", n + 1) for n in range(5)]
    assert road.counts == {"barrier": 5, "kafka": 5}


def test_outside_of_every_barrier_a_dispatch_waits_for_itself(road: Road) -> None:
    road.kafka.outcomes["id-1"] = PublishAmbiguous("timed out")
    with scope():
        pass
    road.send("id-1")
    assert (road.kafka.ends, road.outboxed(), road.counts["ambiguous"]) == ([], [("id-1", "kafka", 1)], 1)


@pytest.mark.parametrize("again", [{"retries": 1}, {"nesting": 1}])
def test_retries_and_replacements_are_confirmed_at_once(road: Road, again: dict[str, int]) -> None:
    with scope():
        road.send(**again)
        assert [row.route for row in road.rows] == ["kafka"]
    assert road.kafka.ends == []


def test_each_barrier_waits_for_its_own(road: Road) -> None:
    with scope():
        road.send("outer")
        with scope():
            road.send("inner")
        assert [row.id for row in road.rows] == ["inner"]
        road.send("outer-2")
    assert [row.id for row in road.rows] == ["inner", "outer", "outer-2"]


def test_what_is_not_acknowledged_lies_in_the_outbox_and_what_is_refused_goes_to_celery(road: Road) -> None:
    road.kafka.outcomes = {"id-1": PublishAmbiguous("timed out"), "id-2": PublishRefused("no such topic")}
    with scope():
        for number in range(4):
            road.send(f"id-{number}")
    assert road.outboxed() == [("id-1", "kafka", 1)]
    assert [message.task_id for message in road.resender.messages] == ["id-2"]
    assert {(row.id, row.route, row.ambiguous, row.fallback) for row in road.rows} == {
        ("id-0", "kafka", 0, ""),
        ("id-1", "kafka", 1, ""),
        ("id-2", "celery", 0, "refused"),
        ("id-3", "kafka", 0, ""),
    }
    assert road.counts == {"barrier": 4, "kafka": 3, "ambiguous": 1, "refused": 1, "celery": 1}
    # The breaker is open, so the next one does not even try.
    road.send("id-5")
    assert road.celery == ["id-5"]


@pytest.mark.parametrize(("stage", "by"), [(Stage.LIVE, "any"), (Stage.COMPLETE, "kafka")])
def test_refused_with_celery_away_or_gone_waits_in_the_outbox(stage: Stage, by: str, monkeypatch: Any) -> None:
    road = Road("barrier", stage)

    def publish(message: Message) -> None:
        raise BrokerUnavailable("Celery's broker is away")

    monkeypatch.setattr(road.resender, "publish", publish)
    road.kafka.outcomes = {"id-1": PublishRefused("no such topic"), "id-2": PublishRefused("no such topic")}
    with scope():
        road.send("id-1")
        road.send("id-2")
    # Whether Celery's broker took the one that it was asked for, nobody knows.
    first = ("id-1", "celery-again", 1) if by == "any" else ("id-1", by, 0)
    assert road.outboxed() == [first, ("id-2", by, 0)]
    assert [(row.id, row.route, row.due) for row in road.rows] == [("id-1", "delayed", NOW), ("id-2", "delayed", NOW)]
    assert road.counts == {"barrier": 2, "refused": 2, "outbox": 2}


def test_only_when_the_outbox_fails_too_a_barrier_raises_and_names_the_tasks(road: Road) -> None:
    road.pending.error = StoreUnavailable("the database is away")
    road.kafka.outcomes = {f"id-{number}": PublishAmbiguous("timed out") for number in range(8)}
    sentence = r"^8 dispatches may be lost, orders.place\[id-0\].* and 3 more: timed out.*: the database is away$"
    with pytest.raises(PublishAmbiguous, match=sentence):
        road.send_many(*road.kafka.outcomes)
    assert road.rows == []


def test_an_error_inside_keeps_precedence_and_still_everything_is_settled(
    road: Road, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError, match="mine"):
        road.send_many("id-1", error=KeyError("mine"))
    assert [row.route for row in road.rows] == ["kafka"]
    road.pending.error = StoreUnavailable("the database is away")
    road.kafka.outcomes["id-2"] = PublishAmbiguous("timed out")
    with caplog.at_level(logging.ERROR), pytest.raises(KeyError, match="mine") as failed:
        road.send_many("id-2", error=KeyError("mine"))
    assert "1 dispatches may be lost" in caplog.text
    assert failed.value.__notes__[0].startswith("1 dispatches may be lost")


def test_whoever_interrupts_the_wait_has_the_rest_put_aside(road: Road) -> None:
    road.kafka.interrupt = KeyboardInterrupt()
    road.kafka.outcomes["id-2"] = PublishAmbiguous("not yet")
    with pytest.raises(KeyboardInterrupt):
        road.send_many("id-1", "id-2")
    assert road.kafka.ends == [(2, None), (2, 0.0)]
    assert road.outboxed() == [("id-2", "kafka", 1)]
    assert road.counts["kafka"] == 2


def test_a_long_barrier_settles_as_it_goes(road: Road) -> None:
    with scope():
        for number in range(MOST_UNCONFIRMED + 1):
            road.send(f"id-{number}")
        assert len(road.rows) == MOST_UNCONFIRMED
    assert len(road.rows) == MOST_UNCONFIRMED + 1


def test_an_asyncio_task_has_a_barrier_of_its_own_and_its_children_share_it(road: Road) -> None:
    async def child(name: str) -> None:
        road.send(name)

    async def one(name: str) -> None:
        async with scope():
            await asyncio.gather(child(f"{name}-a"), child(f"{name}-b"))
            await asyncio.to_thread(road.send, f"{name}-c")
            assert not [row for row in road.rows if row.id.startswith(name)]
        assert sorted(row.id for row in road.rows if row.id.startswith(name)) == [f"{name}-{x}" for x in "abc"]

    async def both() -> None:
        await asyncio.gather(one("x"), one("y"))
        assert barrier.current() is None

    asyncio.run(both())
    assert sorted(count for count, _ in road.kafka.ends) == [3, 3]


def test_what_outlives_its_barrier_waits_for_itself(road: Road) -> None:
    async def main() -> None:
        left = asyncio.Event()

        async def late() -> None:
            await left.wait()
            road.send("late")

        async with scope():
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        left.set()
        await task

    asyncio.run(main())
    assert [(row.id, row.route) for row in road.rows] == [("late", "kafka")]


def test_another_thread_is_in_no_barrier(road: Road) -> None:
    with scope():
        thread = threading.Thread(target=road.send, args=("other",))
        thread.start()
        thread.join()
        assert [row.id for row in road.rows] == ["other"]


def test_a_forked_child_drops_the_parents_barrier(road: Road) -> None:
    with scope():
        road.send("parents")
        child = os.fork()
        if child == 0:
            ended = road.kafka.ends, road.rows
            try:
                road.send("childs")
                finish_all()
                good = ended == ([], []) and [row.id for row in road.rows] == ["childs"] and barrier.current() is None
            finally:
                os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [row.id for row in road.rows] == ["parents"]


def test_the_end_of_the_process_settles_what_is_open(road: Road, caplog: pytest.LogCaptureFixture) -> None:
    opened = scope()
    opened.__enter__()
    road.send("id-1")
    finish_all()
    assert [row.id for row in road.rows] == ["id-1"]
    road.send("id-2")
    assert [row.id for row in road.rows] == ["id-1", "id-2"]
    opened.__exit__(None, None, None)
    assert len(road.rows) == 2


# Rows in the caller's transaction


def test_an_outbox_dispatch_is_a_row_and_counted_when_that_is_committed() -> None:
    road = Road("outbox", outbox_database="shop")
    committed: list[Callable[[], None]] = []
    added: list[tuple[str, str]] = []

    def add(alias: str, table: Any, pending: Any, kept: Callable[[], None]) -> None:
        added.append((alias, table))
        road.pending.outboxed.append(pending)
        committed.append(kept)

    road.pending.add = add  # type: ignore[method-assign]
    road.send("rolled back")
    road.send("committed")
    assert (road.rows, road.counts, road.kafka.records) == ([], {}, [])
    committed[1]()
    assert [(row.id, row.route, row.seq, row.due) for row in road.rows] == [("committed", "delayed", 1, NOW)]
    assert (road.counts, added) == ({"outbox": 1}, [("shop", "outbox")] * 2)
    assert road.outboxed() == [("rolled back", "kafka", 0), ("committed", "kafka", 0)]
    assert road.pending.outboxed[0].producer == road.dispatcher.numbering.source


def test_an_outbox_dispatch_with_an_eta_is_rolled_back_likewise() -> None:
    road = Road("outbox")
    road.send(due=NOW + 60)
    [row] = road.pending.delayed
    assert (row.due.timestamp(), row.seq, road.counts) == (NOW + 60, 0, {"delayed": 1})
    assert [(row.route, row.due) for row in road.rows] == [("delayed", NOW + 60)]


def test_a_retry_is_not_rolled_back_with_its_task() -> None:
    road = Road("outbox")
    road.send("now", retries=1)
    road.send("later", retries=1, due=NOW + 60)
    assert [_id(record) for _, record in road.kafka.records] == ["now"]
    assert [row.seq for row in road.pending.delayed] == [2]


def test_without_a_database_of_the_callers_there_is_no_outbox() -> None:
    road = Road("outbox")
    road.dispatcher._callers = None
    with pytest.raises(ConfigurationError, match=r"service 'orders' is published by \"outbox\""):
        road.send()


# A complete service


@pytest.mark.parametrize("publish", ["confirm", "barrier"])
def test_a_complete_service_keeps_for_the_relay_what_kafka_refuses(publish: str) -> None:
    road = Road(publish, Stage.COMPLETE)
    road.kafka.error = PublishRefused("queue full")
    with scope():
        assert road.send("id-1") is None
    assert (road.outboxed(), road.celery) == ([("id-1", "kafka", 0)], [])
    assert [(row.route, row.stage, row.ambiguous, row.due) for row in road.rows] == [("delayed", "complete", 0, NOW)]
    assert road.counts == {"refused": 1, "outbox": 1}


def test_a_complete_service_keeps_for_the_relay_what_the_breaker_holds_back() -> None:
    road = Road("confirm", Stage.COMPLETE)
    road.kafka.outcomes["id-1"] = PublishAmbiguous("timed out")
    road.send("id-1")
    road.send("id-2")
    assert road.outboxed() == [("id-1", "kafka", 1), ("id-2", "kafka", 0)]
    assert road.counts == {"ambiguous": 1, "kafka": 1, "breaker": 1, "outbox": 1}


@pytest.mark.parametrize("publish", ["confirm", "barrier", "outbox"])
def test_a_complete_service_cannot_send_what_only_celery_can(publish: str) -> None:
    road = Road(publish, Stage.COMPLETE)
    with pytest.raises(ConfigurationError, match=r"orders.place\[id-1\] cannot be sent: .*\(priority\).* 'orders' is "):
        road.send(unsupported=lambda: "priority")
    assert (road.rows, road.counts, road.celery, road.outboxed()) == ([], {}, [], [])


@pytest.mark.parametrize("publish", ["confirm", "barrier", "outbox"])
@pytest.mark.parametrize("due", [0.0, NOW + 60])
@pytest.mark.parametrize("stage", [Stage.LIVE, Stage.COMPLETE])
def test_an_oversize_message_is_refused_at_once_and_the_limit_named(publish: str, due: float, stage: Stage) -> None:
    road = Road(publish, stage)
    sentence = r"orders.place\[id-1\] .* record of 10,\d+ bytes exceeds TASKBRIDGE\[\"max_message_bytes\"\], 10,000; "
    with scope(), pytest.raises(MessageTooLarge, match=sentence):
        road.send(size=10_000, due=due)
    assert (road.rows, road.counts, road.celery, road.outboxed()) == ([], {}, [], [])
    road.send("fits", size=9_000)
    assert len(road.rows) == 1


def test_a_complete_service_keeps_etas_as_a_live_one_does() -> None:
    road = Road("confirm", Stage.COMPLETE)
    road.send(due=NOW + 60)
    assert [row.due.timestamp() for row in road.pending.delayed] == [NOW + 60]
