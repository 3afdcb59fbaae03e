from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.cli.strimzi import resource_name
from taskbridge.cli.topics import topics
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings

KUBERNETES = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

CONFIGURED = settings(
    ServiceSettings("orders", tasks=("o.*",), partitions=3, replication_factor=3, retention=3600.0),
    ServiceSettings("slow_mail", tasks=("m.*",)),
    prefix="shop",
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: SimpleNamespace(settings=CONFIGURED))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(topics, arguments, obj="project", catch_exceptions=False)

    return invoke


class Strict(yaml.SafeLoader):
    """Refuses a key that comes twice, which YAML allows nobody and PyYAML everybody."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


def test_resources_are_the_topics_that_would_be_created(run) -> None:  # type: ignore[no-untyped-def]
    result = run("--format", "strimzi", "--cluster", "main")
    assert result.exit_code == 0
    documents = list(yaml.load_all(result.output, Strict))
    plan = KafkaAdmin(CONFIGURED).topic_plan(["orders", "slow_mail"])
    assert {document["spec"]["topicName"] for document in documents} == set(plan)
    assert "shop.observations" in plan
    for document in documents:
        spec, wanted = document["spec"], plan[document["spec"]["topicName"]]
        assert (document["apiVersion"], document["kind"]) == ("kafka.strimzi.io/v1", "KafkaTopic")
        assert document["metadata"]["labels"] == {"strimzi.io/cluster": "main"}
        assert KUBERNETES.fullmatch(document["metadata"]["name"])
        assert spec["partitions"] == wanted.partitions
        assert spec.get("replicas", -1) == wanted.replication_factor
        assert {key: str(value) for key, value in spec["config"].items()} == wanted.config
    assert run("--format", "strimzi", "--cluster", "main").output == result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "strimzi"),
        ("--cluster", "main"),
        ("--format", "strimzi", "--cluster", "main", "--dry-run"),
        ("--format", "strimzi", "--cluster", "main", "--start", "latest"),
    ],
)
def test_what_does_not_go_together(run, arguments: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    assert run(*arguments).exit_code == 2


@given(st.text("ab_-.A9", min_size=1, max_size=300), st.text("ab_-.A9", min_size=1, max_size=300))
def test_names_are_accepted_and_differ(one: str, other: str) -> None:
    for topic in (one, other):
        assert len(resource_name(topic)) <= 253
        assert KUBERNETES.fullmatch(resource_name(topic)), resource_name(topic)
    assert (resource_name(one) == resource_name(other)) == (one == other)


@pytest.mark.parametrize("topic", ["shop.orders", "shop.orders.dlq", "a-b.c"])
def test_names_that_kubernetes_takes_stay(topic: str) -> None:
    assert resource_name(topic) == topic
