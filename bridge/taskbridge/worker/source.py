"""What the supervisor needs of a Kafka consumer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from taskbridge.record import Headers


class Fetched(NamedTuple):
    """One record as it came from the log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    written: float = 0.0
    """When it was written to the log, in seconds since the epoch; 0: not known."""


class Assigned(NamedTuple):
    """One partition that has become ours, with what the group committed for it (-1: never)."""

    partition: int
    committed: int
    metadata: str


class RecordSource(Protocol):
    """
    One member of one consumer group, reading one topic.

    The callbacks given to `open` are called from within `poll` and `close`, never from another thread.
    """

    def open(
        self,
        on_assigned: Callable[[Sequence[Assigned]], None],
        on_revoked: Callable[[Sequence[int]], None],
        on_lost: Callable[[Sequence[int]], None],
    ) -> None:
        """Join the group; raise ConfigurationError when the topic is missing, BrokerUnavailable when Kafka is."""
        ...

    def joined(self) -> bool:
        """Return whether the group has, or had, this member, also without a partition."""
        ...

    def poll(self, timeout: float, most: int) -> list[Fetched]:
        """Return up to `most` records, waiting up to `timeout` seconds for the first, and serve callbacks."""
        ...

    def commit(self, offsets: Mapping[int, tuple[int, str]], wait: bool) -> None:
        """
        Commit (offset, metadata) per partition.

        With `wait` returns once the broker has it and raises BrokerUnavailable if it does not; else failures are
        reported by `failed_commits`.
        """
        ...

    def failed_commits(self) -> set[int]:
        """Return, once, the partitions whose last commit did not succeed."""
        ...

    def pause(self, partitions: Sequence[int]) -> None:
        """Fetch no more of these partitions."""
        ...

    def resume(self, partitions: Sequence[int]) -> None:
        """Fetch these partitions again."""
        ...

    def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Return the end offsets as the last fetches told, without asking; what is not known is left out."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...
