"""Kafka's error codes in words: which gap each one is, and whether to ask again. Source: kafka.apache.org/protocol."""

from __future__ import annotations

from dataclasses import dataclass

from lagscaler.policy.model import Gap

UNKNOWN_TOPIC = 3
LEADER_NOT_AVAILABLE = 5
TOPIC_DENIED = 29
GROUP_DENIED = 30
CLUSTER_DENIED = 31
UNSUPPORTED = 35
GROUP_NOT_FOUND = 69

COORDINATOR_MOVES = frozenset({14, 15, 16})
"""Loading, not available, another broker's: ask again, and who coordinates the group first."""

LEADER_MOVES = frozenset({UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, 6, 9, 56, 74, 75, 78})
"""Not known here, no leader, another leader, no replica, its disk failed, epochs that differ: ask again."""

_NAMES = {
    -1: "UNKNOWN_SERVER_ERROR",
    6: "NOT_LEADER_OR_FOLLOWER",
    7: "REQUEST_TIMED_OUT",
    9: "REPLICA_NOT_AVAILABLE",
    14: "COORDINATOR_LOAD_IN_PROGRESS",
    15: "COORDINATOR_NOT_AVAILABLE",
    16: "NOT_COORDINATOR",
    17: "INVALID_TOPIC_EXCEPTION",
    24: "INVALID_GROUP_ID",
    35: "UNSUPPORTED_VERSION",
    56: "KAFKA_STORAGE_ERROR",
    74: "FENCED_LEADER_EPOCH",
    75: "UNKNOWN_LEADER_EPOCH",
    78: "OFFSET_NOT_AVAILABLE",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not known: the kind of gap and a sentence."""

    gap: Gap
    sentence: str


def of_topic(code: int, topic: str, user: str) -> Problem:
    """Return what an error code means for a topic."""
    if code == TOPIC_DENIED:
        return Problem(Gap.DENIED_TOPIC, f"Kafka denies {user} the topic {topic}: grant Describe on it")
    if code in {UNKNOWN_TOPIC, 17}:
        return Problem(Gap.NO_TOPIC, f"there is no topic {topic}: create it, or correct spec.topics")
    if code in LEADER_MOVES:
        return Problem(Gap.NO_LEADER, f"topic {topic} has partitions without a leader ({name_of(code)})")
    return Problem(Gap.OTHER, f"Kafka refuses to describe the topic {topic}: {name_of(code)}")


def of_group(code: int, group: str, user: str) -> Problem:
    """Return what an error code means for a group."""
    if code in {GROUP_DENIED, CLUSTER_DENIED}:
        return Problem(Gap.DENIED_GROUP, f"Kafka denies {user} the group {group}: grant Describe on it")
    if code in COORDINATOR_MOVES:
        return Problem(
            Gap.UNREACHABLE, f"the coordinator of group {group} is not ready ({name_of(code)}): it is asked again"
        )
    return Problem(Gap.OTHER, f"Kafka refuses to tell of group {group}: {name_of(code)}")


def name_of(code: int) -> str:
    """Return how Kafka calls an error."""
    return _NAMES.get(code, f"error {code}")
