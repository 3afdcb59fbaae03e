"""Samples of many consumers of one cluster at once: what the policy needs to know from Kafka."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from lagscaler.kafka.brokers import ATTEMPT, Brokers
from lagscaler.kafka.calls import EARLIEST, LATEST
from lagscaler.kafka.connection import Unreachable
from lagscaler.kafka.credentials import LoginRefused
from lagscaler.kafka.groups import Commits, Membership
from lagscaler.kafka.groupview import GroupView
from lagscaler.kafka.logs import Logs
from lagscaler.kafka.problems import Problem
from lagscaler.kafka.reading import Poll, Reading, Request, reading
from lagscaler.kafka.times import first_unread_at
from lagscaler.policy.model import Gap, TopicPartition
from lagscaler.settings import ClusterSettings

__all__ = ["Reading", "Request", "Sampler"]

logger = logging.getLogger(__name__)

TIMEOUT = 8.0
"""Seconds for one poll: what has not come by then is a gap."""

LOTS = 10
"""Searches for times under way at once: a lot is asked of one leader with one question, in nine rounds or so."""

TURN = 25
"""Consumers whose readings are put together before others have their turn on the event loop."""


class Sampler:
    """
    One cluster's sampler; close it, or use it in an `async with`.

    It needs Describe on the topics and groups, and reads no record. Its methods belong to one event loop; several
    samples may be taken at the same time.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        timeout: float = TIMEOUT,
        attempt: float = ATTEMPT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Connect when first asked.

        `timeout` bounds a poll and `attempt` one question to one broker, in seconds. `clock` tells seconds since the
        epoch. Raises SettingsError for bootstrap servers that are not `host:port`.
        """
        self._settings = settings
        self._timeout = timeout
        self._clock = clock
        self._user = f"user {settings.username}" if settings.username else "the operator"
        self._brokers = Brokers(settings, attempt)
        self._groups = GroupView(self._brokers, self._user)
        self._memberless: set[str] = set()
        """Groups whose members were not known when they were last asked for."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; samples under way end with gaps."""
        await self._brokers.close()

    def keep(self, groups: Iterable[str]) -> None:
        """Forget what was learned of all groups but these."""
        kept = set(groups)
        self._groups.keep(kept)
        self._memberless &= kept

    async def sample(self, requests: Sequence[Request]) -> dict[Hashable, Reading]:
        """
        Return a reading for each request, by its key; what could not be learned stands in its gaps.

        Nothing is raised. Commits are read before the logs' starts and ends: what is consumed meanwhile makes lag too
        large by that much, and never too small.
        """
        poll = Poll(self._clock())
        try:
            async with asyncio.timeout(self._timeout):
                await self._ask(requests, poll)
        except TimeoutError:
            poll.trouble = Problem(
                Gap.UNREACHABLE,
                f"cluster {self._settings.name} ({self._settings.bootstrap_servers}) did not answer everything"
                f" within {self._timeout:g} s",
            )
        except LoginRefused as error:
            poll.trouble = Problem(Gap.AUTHENTICATION, str(error))
        except Unreachable as error:
            poll.trouble = Problem(Gap.UNREACHABLE, str(error))
        except Exception as error:
            logger.exception("the look at the Kafka cluster %s failed", self._settings.name)
            poll.trouble = Problem(
                Gap.OTHER,
                f"the look at cluster {self._settings.name} failed by a fault of the operator's"
                f" ({type(error).__name__}): see its log",
            )
        self._tell_of_members(poll)
        return await self._readings(requests, poll)

    async def _readings(self, requests: Iterable[Request], poll: Poll) -> dict[Hashable, Reading]:
        found = {}
        for number, request in enumerate(requests, 1):
            found[request.key] = reading(request, poll, self._user)
            if number % TURN == 0:
                await asyncio.sleep(0)
        return found

    async def _ask(self, requests: Sequence[Request], poll: Poll) -> None:
        await self._brokers.refresh()
        topics = {topic for request in requests for topic in request.topics}
        poll.logs = logs = await Logs.look(self._brokers, topics, self._user, poll.silent)
        wanted: dict[str, dict[str, list[int]]] = {}
        ends: dict[bool, dict[TopicPartition, int]] = {}
        for request in requests:
            in_group = wanted.setdefault(request.group, {})
            in_log = ends.setdefault(request.read_committed, {})
            for topic in request.topics:
                partitions = logs.partitions(topic)
                if not isinstance(partitions, Problem):
                    in_group[topic] = partitions
                    in_log.update({(topic, number): LATEST for number in partitions})
        await self._groups.commits(wanted, poll.commits, poll.silent)
        poll.at = self._clock()
        starts = dict.fromkeys({partition for in_log in ends.values() for partition in in_log}, EARLIEST)
        # Each writes down what it was told as soon as it was: when the poll ends early, that is known.
        poll.ends = {committed: {} for committed in ends}
        done = await asyncio.gather(
            self._groups.members(list(wanted), poll.members, poll.silent),
            logs.offsets(starts, read_committed=False, found=poll.starts),
            *(logs.offsets(in_log, committed, poll.ends[committed]) for committed, in_log in ends.items()),
            return_exceptions=True,
        )
        for one in done:
            if isinstance(one, BaseException):
                raise one
        await self._ask_times([request for request in requests if request.want_times], poll, logs)

    async def _ask_times(self, requests: Sequence[Request], poll: Poll, logs: Logs) -> None:
        """Ask when unread records were written, for as many consumers at once as share no partition."""
        lots: list[tuple[bool, dict[TopicPartition, int], list[Hashable]]] = []
        for request in requests:
            unread = _unread(request, reading(request, poll, self._user))
            if not unread:
                continue
            for read_committed, offsets, keys in lots:
                if read_committed == request.read_committed and offsets.keys().isdisjoint(unread):
                    offsets.update(unread)
                    keys.append(request.key)
                    break
            else:
                lots.append((request.read_committed, unread, [request.key]))
        places = asyncio.Semaphore(LOTS)

        async def search(read_committed: bool, offsets: Mapping[TopicPartition, int], keys: Sequence[Hashable]) -> None:
            async with places:
                times = await first_unread_at(logs, offsets, read_committed, self._clock())
            poll.times.update(dict.fromkeys(keys, times))

        await asyncio.gather(*(search(*lot) for lot in lots))

    def _tell_of_members(self, poll: Poll) -> None:
        """Log of which groups the members are not known, when that begins and when it ends, since it is no gap."""
        for group, told in poll.members.items():
            if isinstance(told, Membership):
                if group in self._memberless:
                    self._memberless.discard(group)
                    logger.info("Kafka: the members of group %s are known again", group)
            elif group not in self._memberless and isinstance(poll.commits.get(group), Commits):
                self._memberless.add(group)
                logger.warning(
                    "Kafka: the members of group %s are not known, so its pods that are ready are counted instead: %s",
                    group,
                    told.sentence,
                )


def _unread(request: Request, seen: Reading) -> dict[TopicPartition, int]:
    """Return the offsets of the first unread records, where there are any and where a consumer would begin is known."""
    found = {}
    for partition, sample in seen.partitions.items():
        if sample.committed is None and request.offset_reset != "earliest":
            continue
        first = max(sample.start, sample.committed or 0)
        if first < sample.end:
            found[partition] = int(first)
    return found
