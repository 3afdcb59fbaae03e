"""Records stay until Kafka has their letters."""

from __future__ import annotations

import time

import pytest

from taskbridge.exceptions import PublishAmbiguous, PublishError, PublishRefused
from taskbridge.testing import FakePublisher
from taskbridge.worker.channel import Verdict
from taskbridge.worker.settling import SETTLE_AGAIN, Settlement
from tests.unit.taskbridge.worker.entries import entry

DEAD = Verdict(0, "dead", "malformed", "not JSON", "")
REQUEUE = Verdict(0, "requeue", "", "", "")


@pytest.fixture
def kafka() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def settlement(kafka: FakePublisher) -> Settlement:
    return Settlement(kafka, "shop.orders", "shop.orders.dlq")


def test_letters_go_to_the_dead_letter_topic_and_what_is_given_back_to_its_own(
    settlement: Settlement, kafka: FakePublisher
) -> None:
    first, second = entry(5), entry(6)
    settlement.add(first, DEAD)
    settlement.add(second, REQUEUE)
    assert list(settlement.waiting()) == [first, second]
    assert settlement.settle(time.monotonic()) == [first, second]
    assert [topic for topic, _ in kafka.records] == ["shop.orders.dlq", "shop.orders"]
    assert list(settlement.waiting()) == []


@pytest.mark.parametrize("error", [PublishRefused("full"), PublishAmbiguous("no answer")])
def test_while_kafka_does_not_take_it_a_record_stays_and_nothing_passes_it(
    settlement: Settlement, kafka: FakePublisher, error: PublishError, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = entry(5), entry(6)
    settlement.add(first, DEAD)
    settlement.add(second, DEAD)
    kafka.error = error
    now = time.monotonic()
    assert settlement.settle(now) == []
    assert "cannot settle partition 2 offset 5 yet" in caplog.text
    kafka.error = None
    # Not at once: a broker that is away would cost its time limit in every turn of the loop.
    assert settlement.settle(now) == []
    assert list(settlement.waiting()) == [first, second]
    assert settlement.settle(time.monotonic() + SETTLE_AGAIN) == [first, second]
    assert len(kafka.records) == 2


def test_what_became_somebody_elses_is_let_go_without_a_letter(settlement: Settlement, kafka: FakePublisher) -> None:
    one = entry()
    one.tracker.active = False
    kafka.error = PublishAmbiguous("no answer")
    settlement.add(one, DEAD)
    assert settlement.settle(time.monotonic()) == [one]
    assert kafka.records == []
