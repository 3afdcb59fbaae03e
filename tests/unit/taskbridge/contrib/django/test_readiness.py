from __future__ import annotations

from collections.abc import Iterator

from taskbridge.contrib.django.readiness import WINDOW, ComparisonReadiness
from taskbridge.exceptions import BrokerUnavailable
from taskbridge.observation import Batch, DispatchRow, RunRow
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings

NOW = 1_800_000_000.0
PLACE, EXPORT = "shop.orders.place", "shop.orders.export"


class Log:
    """Observations that a test made, or an error."""

    def __init__(self, *batches: Batch, error: Exception | None = None) -> None:
        self.batches = batches
        self.error = error
        self.since = 0.0

    def read(self, service: str, since: float | None = None) -> Iterator[Batch]:
        assert service == "orders"
        self.since = since or 0.0
        if self.error:
            raise self.error
        yield from self.batches


def dispatched(number: int, task: str = PLACE) -> Batch:
    row = DispatchRow(f"id-{number}", 0, 0, task, "k", "kafka", 1, number, NOW - 100, "none", "b0d1", "live")
    return Batch("dispatch", "orders", "web:1:aa", (row,))


def ran(number: int, task: str = PLACE, offset: int = 1) -> Batch:
    row = RunRow(f"id-{number}", 0, 0, task, "kafka", "success", NOW - 99, NOW - 98, 1, 0, offset)
    return Batch("run", "orders", "worker:1:aa", (row,))


def assess(*batches: Batch, task: str = "", error: Exception | None = None) -> tuple[str, str, dict[str, object]]:
    log = Log(*batches, error=error)
    found = ComparisonReadiness(settings(ServiceSettings("orders", tasks=("a",))), log, lambda: NOW)
    assessment = found.assess("orders", task)
    assert log.since == NOW - WINDOW
    assert not assessment.ready
    return assessment.state, assessment.sentence, dict(assessment.figures)


def test_agreement_alone_is_not_enough() -> None:
    state, sentence, figures = assess(*(one(number) for number in range(1, 4) for one in (dispatched, ran)))
    assert state == "INSUFFICIENT"
    assert sentence.startswith("INSUFFICIENT: in the last hour 3 dispatches of orders agree and none differ;")
    assert (figures["comparison"], figures["agree"], figures["executed"]) == ("AGREE", 3, {"EXECUTED": 3})


def test_what_differs_is_a_reason_against_it() -> None:
    state, sentence, figures = assess(dispatched(1), ran(1), dispatched(2))
    assert (state, figures["agree"]) == ("NOT_READY", 1)
    assert sentence == "NOT_READY: in the last hour, of 2 dispatches of orders, 1 MISSING"


def test_no_data_is_no_verdict() -> None:
    state, sentence, figures = assess()
    assert (state, figures["dispatched"]) == ("INSUFFICIENT", 0)
    assert "no dispatch of orders was observed" in sentence


def test_one_task_is_judged_by_itself() -> None:
    batches = (dispatched(1), ran(1), dispatched(2, EXPORT))
    assert assess(*batches)[0] == "NOT_READY"
    state, sentence, _ = assess(*batches, task=PLACE)
    assert (state, f"1 dispatch of {PLACE} agree" in sentence) == ("INSUFFICIENT", True)


def test_what_cannot_be_asked_is_not_known() -> None:
    state, sentence, figures = assess(error=BrokerUnavailable("Kafka at a:1 does not answer"))
    assert (state, figures) == ("INSUFFICIENT", {})
    assert sentence == "INSUFFICIENT: nothing is known of the last hour: Kafka at a:1 does not answer"
