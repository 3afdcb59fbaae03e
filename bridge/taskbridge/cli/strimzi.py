"""Topics as resources of the Strimzi operator."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256

from taskbridge.adapters.kafka.admin import TopicPlan

API = "kafka.strimzi.io/v1"

LONGEST = 253
"""Characters in the name of a Kubernetes resource."""


def strimzi(plans: Iterable[TopicPlan], cluster: str) -> str:
    """Return `KafkaTopic` resources as YAML, the same for the same topics; `cluster` is the Kafka resource's name."""
    return "".join(f"---\n{_document(plan, cluster)}" for plan in sorted(plans, key=lambda plan: plan.name))


def resource_name(topic: str) -> str:
    """
    Return the name of a topic's resource: lower-case letters, digits, `-` and `.`, unlike that of any other topic.

    A topic whose own name Kubernetes would refuse gets the beginning of a digest at its end.
    """
    name = re.sub(r"[^a-z0-9.-]", "-", topic.lower())
    name = re.sub(r"(^|\.)[-.]+|[-.]+(?=\.|$)", lambda found: found[1] or "", name)
    if name == topic and len(name) <= LONGEST:
        return name
    digest = sha256(topic.encode()).hexdigest()[:8]
    return f"{name[: LONGEST - 9].rstrip('-.')}-{digest}".lstrip("-")


def _document(plan: TopicPlan, cluster: str) -> str:
    return "\n".join(_lines(plan, cluster)) + "\n"


def _lines(plan: TopicPlan, cluster: str) -> Iterator[str]:
    # A JSON string is a YAML string, whatever stands in it.
    yield f"apiVersion: {API}"
    yield "kind: KafkaTopic"
    yield "metadata:"
    yield f"  name: {json.dumps(resource_name(plan.name))}"
    yield "  labels:"
    yield f"    strimzi.io/cluster: {json.dumps(cluster)}"
    yield "spec:"
    yield f"  topicName: {json.dumps(plan.name)}"
    yield f"  partitions: {plan.partitions}"
    if plan.replication_factor > 0:
        yield f"  replicas: {plan.replication_factor}"
    yield "  config:"
    for key, value in sorted(plan.config.items()):
        yield f"    {key}: {value if value.isdecimal() else json.dumps(value)}"
