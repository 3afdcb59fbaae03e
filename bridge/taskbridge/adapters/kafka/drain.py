"""Taking out of a service's topic what nobody has executed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence

from taskbridge.adapters.kafka.backlog import Backlog
from taskbridge.adapters.kafka.cluster import Cluster
from taskbridge.adapters.kafka.consumer import KafkaRecordSource
from taskbridge.exceptions import BrokerUnavailable, ConfigurationError
from taskbridge.settings import Settings
from taskbridge.worker.entry import Entry, header, size_of
from taskbridge.worker.offsets import Offsets

BATCH = 200
"""Records between two commits, at most: what a drain that is killed may hand over a second time."""

Deliver = Callable[[Entry], None]
"""Hands a record over; returns once it is safe."""


class TopicDrain:
    """The only member of a service's consumer group, which hands records over instead of executing them."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._settings = settings
        self._service = service
        self._topic, self._group = settings.topic(service), settings.group(service)
        self._backlog = Backlog(settings)
        self._company = False

    def left(self) -> int:
        """Return how many records are not finished; raises BrokerUnavailable or ConfigurationError."""
        return sum(self._backlog.unfinished(self._service, self._backlog.ends(self._service)).values())

    def check_alone(self) -> None:
        """Raise ConfigurationError, naming them, while the service has workers: they would execute what we move."""
        members = Cluster(self._settings.kafka).members(self._group, self._topic)
        if members:
            raise ConfigurationError(
                f"service {self._service!r} has workers that execute its records: stop {', '.join(sorted(members))},"
                f" then drain"
            )

    def run(self, deliver: Deliver, told: Callable[[int], None], timeout: float) -> int:
        """
        Hand over what the topic holds until nothing is left; return how many records that were.

        `told` hears of each batch. A record is committed after it was handed over, so one that a crash comes between is
        handed over again. Raises BrokerUnavailable when `timeout` seconds pass without a record while some are left,
        ConfigurationError when a worker joins.
        """
        self.check_alone()
        host = f"{socket.gethostname()}:{os.getpid()}"
        source = KafkaRecordSource(
            self._settings.kafka,
            self._topic,
            self._group,
            self._settings.group_protocol,
            f"taskbridge-drain-{host}",
        )
        offsets = Offsets(source, self._topic, self._group)
        source.open(offsets.assign, self._left_to_others, self._left_to_others)
        moved, deadline = 0, time.monotonic() + timeout
        try:
            while True:
                batch = self._batch(source, offsets)
                for entry in batch:
                    deliver(entry)
                    entry.tracker.finish(entry.offset)
                if positions := offsets.uncommitted():
                    source.commit(positions, wait=True)
                if batch:
                    moved, deadline = moved + len(batch), time.monotonic() + timeout
                    told(len(batch))
                elif not self.left():
                    return moved
                elif time.monotonic() > deadline:
                    raise BrokerUnavailable(
                        f"{self.left()} records of {self._topic} are left and none came for {timeout:g} s: repeat, with"
                        f" a longer --timeout, or see that every partition has an offset (`taskbridge topics`)"
                    )
        finally:
            self._company = False
            source.close()

    def _batch(self, source: KafkaRecordSource, offsets: Offsets) -> Sequence[Entry]:
        found = []
        records = source.poll(1.0, BATCH)
        if self._company:
            raise ConfigurationError(f"a worker of service {self._service!r} has started: stop it, then drain again")
        for partition, offset, key, value, headers, _ in records:
            tracker = offsets.fetched(partition, offset)
            if tracker is not None:
                name, size = header(headers, "task"), size_of(value, headers)
                found.append(Entry(tracker, partition, offset, key, value, headers, name, size))
        return found

    def _left_to_others(self, _: Sequence[int]) -> None:
        self._company = True
