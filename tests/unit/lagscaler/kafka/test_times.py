"""When a record was written, found by asking for times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagscaler.kafka.calls import LogOffset
from lagscaler.kafka.problems import Problem
from lagscaler.kafka.times import PRECISION, ROUNDS, first_unread_at
from lagscaler.policy.model import Gap, TopicPartition

NOW = 1_800_000_000.0


class FakeLogs:
    """Logs that are lists of times, in ms; offsets are the places in the lists."""

    def __init__(self, logs: Mapping[TopicPartition, list[int]], first: int = 0) -> None:
        self._logs = logs
        self._first = first
        self.rounds = 0
        self.trouble_after = 10**6

    async def offsets(
        self, wanted: Mapping[TopicPartition, int], read_committed: bool
    ) -> dict[TopicPartition, LogOffset | Problem]:
        assert read_committed
        self.rounds += 1
        if self.rounds > self.trouble_after:
            return dict.fromkeys(wanted, Problem(Gap.NO_LEADER, "gone"))
        return {partition: self._first_at(self._logs[partition], time) for partition, time in wanted.items()}

    def _first_at(self, log: list[int], time: int) -> LogOffset:
        found = next((number for number, when in enumerate(log) if number >= self._first and when >= time), None)
        return LogOffset(0, -1, -1) if found is None else LogOffset(0, found, log[found])


def found(logs: FakeLogs, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, float]:
    return asyncio.run(first_unread_at(logs, offsets, read_committed=True, now=NOW))  # type: ignore[arg-type]


def ages(*seconds: float) -> list[int]:
    """Return the times of records of these ages."""
    return [int((NOW - age) * 1000) for age in seconds]


@settings(deadline=None)
@given(st.lists(st.floats(0, 14 * 86_400), min_size=1, max_size=200), st.data())
def test_the_answer_is_never_too_late_and_too_early_by_little(written: list[float], data: st.DataObject) -> None:
    log = ages(*sorted(written, reverse=True))
    offset = data.draw(st.integers(0, len(log) - 1))
    logs = FakeLogs({("t", 0): log})
    answer = found(logs, {("t", 0): offset})["t", 0]
    age, told = NOW - log[offset] / 1000, NOW - answer
    assert told >= age - 0.002
    assert told <= max(age + 1.0, age / (1 - PRECISION)) + 0.002
    assert logs.rounds <= ROUNDS


def test_many_partitions_take_no_more_rounds_than_one() -> None:
    logs = FakeLogs({("t", number): ages(*range(5_000 + number, 0, -1)) for number in range(20)})
    answers = found(logs, {("t", number): 7 * number for number in range(20)})
    assert len(answers) == 20
    assert logs.rounds <= ROUNDS


def test_the_first_record_that_is_left_tells_at_once() -> None:
    logs = FakeLogs({("t", 0): ages(500, 400, 300)}, first=1)
    assert found(logs, {("t", 0): 0}) == {("t", 0): NOW - 400}
    assert logs.rounds == 1


def test_a_record_that_is_not_there_any_more_is_as_old_as_those_about_it() -> None:
    """Offset 50 was taken by compaction: the records about it are told apart by time alone."""

    class Compacted(FakeLogs):
        def _first_at(self, log: list[int], time: int) -> LogOffset:
            one = super()._first_at(log, time)
            return LogOffset(0, 51, log[51]) if one.offset == 50 else one

    log = ages(*range(10_000, 0, -100))
    answer = found(Compacted({("t", 0): log}), {("t", 0): 50})["t", 0]
    assert log[49] / 1000 <= answer <= log[51] / 1000


def test_records_from_the_future_are_as_old_as_now() -> None:
    assert found(FakeLogs({("t", 0): ages(-500, -600)}), {("t", 0): 0}) == {("t", 0): NOW}
    assert found(FakeLogs({("t", 0): ages(-500, -600)}), {("t", 0): 1}) == {("t", 0): NOW}


def test_records_without_a_time_tell_nothing() -> None:
    class Untimed(FakeLogs):
        def _first_at(self, log: list[int], time: int) -> LogOffset:
            return LogOffset(0, 0, -1)

    assert found(Untimed({("t", 0): [0]}), {("t", 0): 0}) == {}


@pytest.mark.parametrize("after", [0, 2])
def test_a_partition_that_is_lost_meanwhile_tells_nothing(after: int) -> None:
    logs = FakeLogs({("t", 0): ages(*range(10_000, 0, -1))})
    logs.trouble_after = after
    assert found(logs, {("t", 0): 5_000}) == {}


def test_a_log_that_holds_nothing_to_read_tells_nothing() -> None:
    assert found(FakeLogs({("t", 0): []}), {("t", 0): 5}) == {}
