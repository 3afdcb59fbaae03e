"""What the coordinators of groups tell: commits and members, however often a coordinator moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from lagscaler.kafka.brokers import Brokers, unless_silent
from lagscaler.kafka.calls import Call, Node
from lagscaler.kafka.connection import Unreachable
from lagscaler.kafka.credentials import LoginRefused
from lagscaler.kafka.groups import (
    CONSUMER_GROUP_DESCRIBE,
    FETCH_MANY,
    FIND_COORDINATOR,
    FIND_MANY,
    OFFSET_FETCH,
    Commits,
    Coordinator,
    Membership,
    describe_consumer_groups,
    describe_groups,
    fetch_commits,
    fetch_commits_of_one,
    find_coordinator,
    find_coordinators,
)
from lagscaler.kafka.problems import COORDINATOR_MOVES, GROUP_NOT_FOUND, UNSUPPORTED, Problem, of_group
from lagscaler.policy.model import Gap

A = TypeVar("A", Commits, Membership)
S = TypeVar("S", Commits, Coordinator)

ROUNDS = 3
"""How often a group is asked about in one poll, while its coordinator moves or loads."""

PAUSE = 0.25
"""Seconds between two rounds."""

BATCH = 100
"""Groups in one question: an answer of some hundred kilobytes at most, as metadata goes."""

OF_ANOTHER_PROTOCOL = frozenset({GROUP_NOT_FOUND, UNSUPPORTED})
"""What is said of groups that KIP-848 does not have: the second by brokers that know it and have it switched off."""

SINGLES = 20
"""Questions about single groups under way at once, for brokers that take no more than one each."""


class GroupView:
    """Groups of one cluster. It remembers who coordinates them."""

    def __init__(self, brokers: Brokers, user: str) -> None:
        """`user` is whom sentences name."""
        self._brokers = brokers
        self._user = user
        self._coordinators: dict[str, Node] = {}

    def keep(self, groups: Iterable[str]) -> None:
        """Forget all groups but these."""
        kept = set(groups)
        self._coordinators = {group: node for group, node in self._coordinators.items() if group in kept}

    async def commits(
        self,
        wanted: Mapping[str, Mapping[str, Sequence[int]]],
        found: dict[str, Commits | Problem],
        silent: dict[Node, str],
    ) -> None:
        """
        Put into `found` what each group has committed for the partitions that are asked for, or why that is not known.

        Each coordinator's groups are there as soon as it answers. `silent` as in `unless_silent`.
        """

        async def ask(node: Node, groups: Sequence[str]) -> dict[str, Commits]:
            asked = [(group, wanted[group]) for group in groups]
            if await self._brokers.speaks(node, OFFSET_FETCH, FETCH_MANY):
                return await self._brokers.ask(node, fetch_commits(asked))
            return await self._singly(node, [fetch_commits_of_one(one) for one in asked])

        await self._ask(list(wanted), ask, found, silent)

    async def members(
        self, groups: Sequence[str], found: dict[str, Membership | Problem], silent: dict[Node, str]
    ) -> None:
        """
        Put into `found` who belongs to each group, or why that is not known; a group that is not there has no members.

        Each coordinator's groups are there as soon as it answers. `silent` as in `unless_silent`.
        """

        async def ask(node: Node, batch: Sequence[str]) -> dict[str, Membership]:
            told: dict[str, Membership] = {}
            if await self._brokers.speaks(node, CONSUMER_GROUP_DESCRIBE, 0):
                told = await self._brokers.ask(node, describe_consumer_groups(batch))
            classic = [group for group in batch if group not in told or told[group].error in OF_ANOTHER_PROTOCOL]
            return told | await self._brokers.ask(node, describe_groups(classic)) if classic else told

        await self._ask(groups, ask, found, silent)

    async def _ask(
        self,
        groups: Sequence[str],
        ask: Callable[[Node, Sequence[str]], Awaitable[dict[str, A]]],
        found: dict[str, A | Problem],
        silent: dict[Node, str],
    ) -> None:
        """Put a question to the coordinator of each group, again where it has moved meanwhile."""
        left = list(groups)
        for attempt in range(ROUNDS):
            if attempt:
                await asyncio.sleep(PAUSE)
            moved: list[str] = []
            for group, problem in (await self._locate(left)).items():
                found[group] = problem
                if problem.gap is Gap.UNREACHABLE:
                    moved.append(group)
            batches: dict[Node, list[str]] = {}
            for group in left:
                if (node := self._coordinators.get(group)) is not None:
                    batches.setdefault(node, []).append(group)
            again = await asyncio.gather(
                *(
                    self._answer(node, batch[at : at + BATCH], ask, found, silent)
                    for node, batch in batches.items()
                    for at in range(0, len(batch), BATCH)
                )
            )
            left = moved + [group for one in again for group in one]
            if not left:
                break

    async def _answer(
        self,
        node: Node,
        groups: Sequence[str],
        ask: Callable[[Node, Sequence[str]], Awaitable[dict[str, A]]],
        found: dict[str, A | Problem],
        silent: dict[Node, str],
    ) -> list[str]:
        """Put what a coordinator tells into `found`; return the groups to ask about again, another one perhaps."""
        answer: dict[str, A] | Problem
        try:
            with unless_silent(node, silent):
                answer = await ask(node, groups)
        except LoginRefused as error:
            answer = Problem(Gap.AUTHENTICATION, str(error))
        except Unreachable as error:
            answer = Problem(Gap.UNREACHABLE, f"the coordinator of the group did not answer: {error}")
        again = []
        for group in groups:
            one = answer if isinstance(answer, Problem) else answer.get(group)
            found[group], moved = self._judged(group, one)
            if moved:
                self._coordinators.pop(group, None)
                again.append(group)
        return again

    def _judged(self, group: str, answer: A | Problem | None) -> tuple[A | Problem, bool]:
        """Return an answer, or the problem that it is, and whether to ask again."""
        if isinstance(answer, Problem):
            return answer, answer.gap is Gap.UNREACHABLE
        if answer is None:
            return Problem(Gap.OTHER, f"Kafka told nothing of group {group}"), False
        if answer.error:
            return of_group(answer.error, group, self._user), answer.error in COORDINATOR_MOVES
        return answer, False

    async def _locate(self, groups: Sequence[str]) -> dict[str, Problem]:
        """Find the coordinators that are not known; return what is in the way of that."""
        unknown = [group for group in groups if group not in self._coordinators]
        if not unknown:
            return {}
        try:
            if await self._brokers.speaks(None, FIND_COORDINATOR, FIND_MANY):
                batches = [unknown[at : at + BATCH] for at in range(0, len(unknown), BATCH)]
                answers = [await self._brokers.ask(None, find_coordinators(batch)) for batch in batches]
                found = {group: one for answer in answers for group, one in answer.items()}
            else:
                found = await self._singly(None, [find_coordinator(group) for group in unknown])
        except LoginRefused as error:
            return dict.fromkeys(unknown, Problem(Gap.AUTHENTICATION, str(error)))
        except Unreachable as error:
            return dict.fromkeys(unknown, Problem(Gap.UNREACHABLE, str(error)))
        problems = {}
        for group in unknown:
            one = found.get(group)
            if one is None:
                problems[group] = Problem(Gap.OTHER, f"Kafka does not tell who coordinates group {group}")
            elif one.error:
                problems[group] = of_group(one.error, group, self._user)
            else:
                self._coordinators[group] = one.node
        return problems

    async def _singly(self, node: Node | None, calls: Sequence[Call[dict[str, S]]]) -> dict[str, S]:
        """Ask several questions, a bounded number at once, and return their answers as one."""
        places = asyncio.Semaphore(SINGLES)

        async def one(call: Call[dict[str, S]]) -> dict[str, S]:
            async with places:
                return await self._brokers.ask(node, call)

        answers = await asyncio.gather(*(one(call) for call in calls))
        return {group: told for answer in answers for group, told in answer.items()}
