"""Whether everything before a certain moment of a service's topic has been executed."""

from __future__ import annotations

from collections.abc import Mapping

from taskbridge.adapters.kafka.cluster import TIMEOUT, Cluster
from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import Settings
from taskbridge.worker.tracker import decode_runs


class Backlog:
    """
    A service's topic and what its workers have finished of it.

    Every method raises BrokerUnavailable or ConfigurationError when Kafka does not answer, or denies it.
    """

    def __init__(self, settings: Settings, timeout: float = TIMEOUT) -> None:
        """Connects when first asked; `timeout` is in seconds."""
        self._settings = settings
        self._cluster = Cluster(settings.kafka, timeout)

    def ends(self, service: str) -> dict[int, int]:
        """Return the present end offset of each partition; raise ConfigurationError when there is no topic."""
        topic = self._settings.topic(service)
        count = self._cluster.partition_counts([topic]).get(topic)
        if count is None:
            raise ConfigurationError(f"topic {topic} does not exist: create it with `taskbridge topics`")
        return self._cluster.offsets(topic, count, "latest")

    def unfinished(self, service: str, ends: Mapping[int, int]) -> dict[int, int]:
        """
        Return how many records before `ends` are not finished, for each partition where there are some.

        A partition of which nothing is known counts with all that it may hold.
        """
        topic = self._settings.topic(service)
        committed = self._cluster.committed(self._settings.group(service), topic, max(ends, default=-1) + 1)
        left = {}
        for partition, end in ends.items():
            stored = committed.get(partition)
            if stored is None or stored.offset < 0:
                left[partition] = end
                continue
            finished = sum(
                max(0, min(stop, end) - start) for start, stop in decode_runs(stored.offset, stored.metadata or "")
            )
            left[partition] = max(0, end - stored.offset - finished)
        return {partition: number for partition, number in left.items() if number}
