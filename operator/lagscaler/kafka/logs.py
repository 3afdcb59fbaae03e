"""What the leaders of partitions tell of their logs, in one poll."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Self

from lagscaler.kafka.brokers import Brokers, unless_silent
from lagscaler.kafka.calls import LogOffset, Metadata, Node, Topic, list_offsets
from lagscaler.kafka.connection import Unreachable
from lagscaler.kafka.credentials import LoginRefused
from lagscaler.kafka.problems import LEADER_MOVES, UNKNOWN_TOPIC, Problem, of_topic
from lagscaler.policy.model import Gap, TopicPartition

ROUNDS = 3
"""How often a partition is asked about in one poll, while its leader moves."""

PAUSE = 0.25
"""Seconds between two rounds."""

_ABSENT = Topic(UNKNOWN_TOPIC, {})


class Logs:
    """Topics as the metadata has them, and offsets of their partitions; made by `look`."""

    def __init__(self, brokers: Brokers, metadata: Metadata, user: str, silent: dict[Node, str]) -> None:
        self._brokers = brokers
        self._topics = dict(metadata.topics)
        self._user = user
        self._silent = silent

    @classmethod
    async def look(cls, brokers: Brokers, topics: Collection[str], user: str, silent: dict[Node, str]) -> Self:
        """
        Ask for topics; sentences name `user`.

        `silent` are the brokers that did not answer in this poll, as `unless_silent` has them. Raises Unreachable and
        LoginRefused.
        """
        return cls(brokers, await brokers.metadata(sorted(topics)), user, silent)

    def partitions(self, topic: str) -> list[int] | Problem:
        """Return a topic's partitions, or why they are not known."""
        found = self._topics.get(topic, _ABSENT)
        if found.error:
            return of_topic(found.error, topic, self._user)
        return sorted(found.leaders)

    async def offsets(
        self,
        wanted: Mapping[TopicPartition, int],
        read_committed: bool,
        found: dict[TopicPartition, LogOffset | Problem] | None = None,
    ) -> dict[TopicPartition, LogOffset | Problem]:
        """
        Return an offset for each partition, or why it is not known.

        `wanted` says for each what is asked for: EARLIEST, LATEST or a time in ms. `read_committed` as in
        `list_offsets`. `found` is what is returned, if it is given, and has what each leader told as soon as it did.
        """
        found = {} if found is None else found
        left = dict(wanted)
        for attempt in range(ROUNDS):
            if attempt:
                await asyncio.sleep(PAUSE)
                await self._look_again({topic for topic, _ in left})
            by_leader: dict[Node, dict[TopicPartition, int]] = {}
            for partition, timestamp in left.items():
                leader = self._leader(partition)
                if isinstance(leader, Problem):
                    found[partition] = leader
                else:
                    by_leader.setdefault(leader, {})[partition] = timestamp
            answers = await asyncio.gather(
                *(self._answer(leader, asked, read_committed, found) for leader, asked in by_leader.items())
            )
            left = {partition: timestamp for again in answers for partition, timestamp in again.items()}
            if not left:
                break
        return found

    def _leader(self, partition: TopicPartition) -> Node | Problem:
        topic, number = partition
        known = self._topics.get(topic, _ABSENT)
        if known.error:
            return of_topic(known.error, topic, self._user)
        leader = self._brokers.node(known.leaders.get(number, -1))
        if leader is None:
            return Problem(Gap.NO_LEADER, f"topic {topic} has partitions without a leader: check its brokers")
        return leader

    async def _look_again(self, topics: Collection[str]) -> None:
        """Ask who leads now; that nobody answers is told by the questions that follow."""
        try:
            self._topics.update((await self._brokers.metadata(sorted(topics))).topics)
        except (Unreachable, LoginRefused):
            return

    async def _answer(
        self,
        leader: Node,
        wanted: Mapping[TopicPartition, int],
        read_committed: bool,
        found: dict[TopicPartition, LogOffset | Problem],
    ) -> Mapping[TopicPartition, int]:
        """Put what a leader tells into `found`; return what is to be asked again, of another leader perhaps."""
        try:
            with unless_silent(leader, self._silent):
                answer = await self._brokers.ask(leader, list_offsets(wanted.items(), read_committed))
        except LoginRefused as error:
            found.update(dict.fromkeys(wanted, Problem(Gap.AUTHENTICATION, str(error))))
            return {}
        except Unreachable as error:
            sentence = f"the leader of some partitions did not answer: {error}"
            found.update(dict.fromkeys(wanted, Problem(Gap.NO_LEADER, sentence)))
            return wanted
        again = {}
        for partition, timestamp in wanted.items():
            one = answer.get(partition)
            if one is None:
                found[partition] = Problem(Gap.OTHER, f"Kafka told nothing of a partition of {partition[0]}")
            elif one.error:
                found[partition] = of_topic(one.error, partition[0], self._user)
                if one.error in LEADER_MOVES:
                    again[partition] = timestamp
            else:
                found[partition] = one
        return again
