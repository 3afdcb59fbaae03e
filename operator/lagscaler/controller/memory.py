"""What outlives a restart of the operator: the policy's state, in the status of the resource."""

from __future__ import annotations

import logging
from typing import Any

from lagscaler.policy.document import parse_state, state_document
from lagscaler.policy.model import State
from lagscaler.resources.consumer import KafkaConsumer

logger = logging.getLogger(__name__)

Subject = tuple[str, str, str, tuple[str, ...], str]


def subject(consumer: KafkaConsumer) -> Subject:
    """Return what it is about: with another cluster, group, topic or Deployment all that was learned is void."""
    return (consumer.uid, consumer.cluster, consumer.group, tuple(sorted(consumer.topics)), consumer.target)


def remembered(consumer: KafkaConsumer) -> State | None:
    """Return the state that the status holds; None when there is none, or when it is about something else."""
    kept = consumer.status.get("policy") or {}
    if kept.get("about") != _about(consumer):
        return None
    try:
        return parse_state(kept.get("state") or {})
    except ValueError as error:
        logger.warning("KafkaConsumer %s: what was learned cannot be read and is learned anew: %s", consumer.key, error)
        return None


def document(consumer: KafkaConsumer, state: State) -> dict[str, Any]:
    """Return what the status keeps."""
    return {"about": _about(consumer), "state": state_document(state)}


def _about(consumer: KafkaConsumer) -> str:
    _, cluster, group, topics, target = subject(consumer)
    return f"{cluster}/{group}/{','.join(topics)}/{target}"
