"""Records that did not simply end: dead letters, and records that are given back to run again."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator

from taskbridge.exceptions import PublishError
from taskbridge.ports import ConfirmedPublisher
from taskbridge.worker.channel import Verdict
from taskbridge.worker.entry import Entry
from taskbridge.worker.letters import dead_letter, given_back

logger = logging.getLogger(__name__)

SETTLE_AGAIN = 1.0
"""Seconds between attempts while Kafka does not take a record."""


class Settlement:
    """
    Publishes what has to be published before a record's offset may be passed.

    A record stays here, and its offset uncommitted, until the broker has confirmed the letter: nothing is lost while
    Kafka does not answer.
    """

    def __init__(self, publisher: ConfirmedPublisher, topic: str, dead_letter_topic: str) -> None:
        self._publisher = publisher
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._waiting: deque[tuple[Entry, Verdict]] = deque()
        self._next_attempt = 0.0
        self.dead_letters: Counter[str] = Counter()
        """By reason, since the start."""
        self.given_back = 0
        """Records that were written to the end of their topic, since the start."""

    def __len__(self) -> int:
        """Return how many records are not settled yet."""
        return len(self._waiting)

    def add(self, entry: Entry, verdict: Verdict) -> None:
        """Take charge of a record."""
        self._waiting.append((entry, verdict))

    def waiting(self) -> Iterator[Entry]:
        """Yield the records that are not settled yet."""
        return (entry for entry, _ in self._waiting)

    def settle(self, now: float) -> list[Entry]:
        """Publish what is waiting; return the records that are settled. `now` is monotonic."""
        settled: list[Entry] = []
        if now < self._next_attempt:
            return settled
        while self._waiting:
            entry, verdict = self._waiting[0]
            if entry.tracker.active and not self._published(entry, verdict):
                self._next_attempt = time.monotonic() + SETTLE_AGAIN
                break
            self._waiting.popleft()
            settled.append(entry)
        return settled

    def _published(self, entry: Entry, verdict: Verdict) -> bool:
        try:
            if verdict.action == "requeue":
                self._publisher.publish(self._topic, given_back(entry))
                self.given_back += 1
                return True
            letter = dead_letter(entry, verdict, self._topic, time.time())
            self._publisher.publish(self._dead_letter_topic, letter)
        except PublishError as error:
            logger.warning("cannot settle partition %d offset %d yet: %s", entry.partition, entry.offset, error)
            return False
        self.dead_letters[verdict.reason] += 1
        logger.error(
            "dead-lettered %s from %s partition %d offset %d: %s (%s)",
            entry.task or "a record",
            self._topic,
            entry.partition,
            entry.offset,
            verdict.reason,
            verdict.detail,
        )
        return True
