"""When the first unread record of a partition was written, asked of Kafka without reading a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lagscaler.kafka.logs import Logs
from lagscaler.kafka.problems import Problem
from lagscaler.policy.model import TopicPartition

ROUNDS = 14
"""Questions for each partition, at most; nine narrow two weeks down to PRECISION."""

PRECISION = 0.05
"""Share of a record's age by which the answer may be too old."""

SECOND = 1000
"""By how many ms it may be too old in any case."""


@dataclass(slots=True)
class _Search:
    """The record at `offset` was written at `low` or later and before `high`, in ms."""

    offset: int
    low: int
    high: int

    def narrow(self, now: int) -> int | None:
        """Return the time to ask for next; None when it is known well enough."""
        youngest, oldest = max(0, now - self.high), now - self.low
        if oldest - youngest <= max(SECOND, PRECISION * oldest):
            return None
        # In the middle of the ages' logarithms: what counts is the error's share of the age.
        return now - int((max(youngest, SECOND // 2) * oldest) ** 0.5)


async def first_unread_at(
    logs: Logs, offsets: Mapping[TopicPartition, int], read_committed: bool, now: float
) -> dict[TopicPartition, float]:
    """
    Return when the record at an offset, or the first one after it, was written, in seconds since the epoch.

    The answer is exact, or too early by at most a second or 5 % of the record's age. A partition of which Kafka does
    not tell, and one whose records bear no time, is left out. Times are taken to ascend along a log, as they do but
    for small disorder among producers.
    """
    moment = int(now * 1000)
    found: dict[TopicPartition, float] = {}
    searches: dict[TopicPartition, _Search] = {}
    for partition, first in (await logs.offsets(dict.fromkeys(offsets, 0), read_committed)).items():
        if isinstance(first, Problem) or first.offset < 0 or first.timestamp < 0:
            continue
        if first.offset >= offsets[partition]:
            found[partition] = min(first.timestamp, moment) / 1000
        else:
            searches[partition] = _Search(offsets[partition], min(first.timestamp, moment), moment)
    for _ in range(ROUNDS):
        asked = {}
        for partition, search in list(searches.items()):
            middle = search.narrow(moment)
            if middle is None:
                found[partition] = searches.pop(partition).low / 1000
            else:
                asked[partition] = middle
        if not asked:
            break
        for partition, answer in (await logs.offsets(asked, read_committed)).items():
            search = searches[partition]
            if isinstance(answer, Problem):
                del searches[partition]
            elif answer.offset == search.offset:
                found[partition] = min(answer.timestamp, moment) / 1000
                del searches[partition]
            elif answer.offset < 0 or answer.offset > search.offset:
                search.high = asked[partition]
            else:
                search.low = min(max(answer.timestamp, asked[partition]), search.high)
    found.update({partition: search.low / 1000 for partition, search in searches.items()})
    return found
