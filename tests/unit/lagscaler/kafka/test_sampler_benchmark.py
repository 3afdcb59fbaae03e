"""What the benchmark gives the policy is what the operator gives it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from benchmarks.sampler import POLL, RATE, Consumers, commit
from lagscaler.kafka.sampler import Reading
from lagscaler.policy.decide import decide
from lagscaler.policy.model import PartitionSample, Reason, State


def test_the_time_before_the_first_poll_is_that_of_a_consumer_that_keeps_up() -> None:
    consumers = Consumers(topics=2, partitions=3, consumers=4)
    readings: dict[object, Reading] = {
        request.key: Reading(
            1e9, {(request.topics[0], number): PartitionSample(1e5, 1e6, 1e6, busy=0.5) for number in range(3)}
        )
        for request in consumers.requests
    }
    consumers.remember(readings)
    (samples, *_others) = consumers.samples
    assert len(samples) == consumers.spec.window / POLL
    assert {later.at - earlier.at for earlier, later in zip(samples, list(samples)[1:], strict=False)} == {POLL}
    decision = decide(samples, consumers.spec, State())
    assert decision.arrival_rate == 3 * RATE / POLL
    assert decision.reason is not Reason.STALLED
    asyncio.run(consumers.decide(readings))
    assert consumers.samples[0][-1].at == 1e9


class Broker:
    """Answers to commits: with errors first, then with what was committed."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)
        self.taken: list[tuple[str, list[int]]] = []

    def alter_consumer_group_offsets(self, asked: Any, **_: object) -> dict[str, Future[None]]:
        answer: Future[None] = Future()
        if self._errors:
            answer.set_exception(KafkaException(KafkaError(self._errors.pop(0))))
        else:
            answer.set_result(None)
            self.taken += [(one.group_id, [part.offset for part in one.topic_partitions]) for one in asked]
        return {one.group_id: answer for one in asked}


def test_a_commit_that_the_broker_answers_too_late_is_made_again() -> None:
    broker: Any = Broker(KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT)
    commit(broker, Consumers(topics=1, partitions=2, consumers=2).requests, partitions=2, offset=7)
    assert broker.taken == [("workers-0000", [7, 7]), ("workers-0001", [7, 7])]


def test_a_commit_that_the_broker_refuses_is_not() -> None:
    broker: Any = Broker(KafkaError.NON_EMPTY_GROUP)
    with pytest.raises(KafkaException):
        commit(broker, Consumers(topics=1, partitions=2, consumers=1).requests, partitions=2, offset=7)
    assert broker.taken == []
