"""Topics, first offsets and lag on a real Kafka."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from taskbridge.adapters.kafka.admin import KafkaAdmin, Lag, PartitionLag, Seeding, TopicState
from taskbridge.cli.topics import topics
from taskbridge.exceptions import BrokerUnavailable, ConfigurationError
from taskbridge.settings import Settings
from taskbridge.worker.tracker import PartitionTracker

pytestmark = pytest.mark.services

MAPPING = {
    "orders": {"tasks": ["o.*"], "partitions": 3, "retention": 3600.0},
    "fraud": {"tasks": ["f.*"], "partitions": 2},
}


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    mapping = {"prefix": topic_prefix, "services": MAPPING, "max_message_bytes": 2_000_000}
    return Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap})


@pytest.fixture
def admin(settings: Settings) -> KafkaAdmin:
    return KafkaAdmin(settings)


def produce(settings: Settings, topic: str, partition: int, count: int = 1) -> None:
    producer = Producer(settings.kafka.client_config())
    for _ in range(count):
        producer.produce(topic, b"x", partition=partition)
    assert producer.flush(10) == 0


def store_offset(settings: Settings, group: str, topic: str, partition: int, offset: int, metadata: str = "") -> None:
    client = AdminClient(settings.kafka.client_config())
    given = TopicPartition(topic, partition, offset, metadata)
    client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [given])])[group].result(60)


def with_partitions(settings: Settings, count: int) -> Settings:
    orders = replace(settings.services["orders"], partitions=count)
    return replace(settings, services=MappingProxyType({"orders": orders}))


@pytest.fixture
def member(settings: Settings, admin: KafkaAdmin) -> Iterator[Consumer]:
    """A member of the live group of `orders`."""
    admin.ensure_topics(["orders"])
    consumer = Consumer(
        settings.kafka.client_config()
        | {"group.id": settings.group("orders"), "group.protocol": "consumer", "auto.offset.reset": "error"}
    )
    consumer.subscribe([settings.topic("orders")])
    deadline = time.monotonic() + 60
    while not consumer.assignment():
        assert time.monotonic() < deadline
        consumer.poll(0.1)
    yield consumer
    consumer.close()


def test_missing_topics_are_created_as_configured(admin: KafkaAdmin, settings: Settings, topic_prefix: str) -> None:
    names = [f"{topic_prefix}.{name}" for name in ("orders", "orders.shadow", "orders.dlq", "observations")]
    counts = [3, 3, 3, 6]

    def states(word: str) -> list[TopicState]:
        return [TopicState(name, count, word) for name, count in zip(names, counts, strict=True)]  # type: ignore[arg-type]

    assert admin.ensure_topics(["orders"], dry_run=True) == states("missing")
    assert admin.ensure_topics(["orders"]) == states("created")
    assert admin.ensure_topics(["orders"]) == states("ok")

    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    client = AdminClient(settings.kafka.client_config())
    described = client.describe_configs(resources)
    found = {resource.name: future.result(60) for resource, future in described.items()}
    assert found[names[0]]["retention.ms"].value == "3600000"
    assert found[names[0]]["cleanup.policy"].value == "delete"
    assert int(found[names[0]]["max.message.bytes"].value) > settings.max_message_bytes
    # All services write observations, so the longest retention of any of them holds.
    assert found[names[3]]["retention.ms"].value == str(14 * 86400 * 1000)


@pytest.mark.parametrize(
    ("count", "remedy"),
    [(5, "kafka-topics.sh --alter .* --partitions 5`, or set its partitions to 3"), (2, "cannot be taken away: set")],
)
def test_a_wrong_number_of_partitions_is_refused_before_anything_is_created(
    admin: KafkaAdmin, settings: Settings, count: int, remedy: str
) -> None:
    admin.ensure_topics(["orders"])
    other = KafkaAdmin(replace(with_partitions(settings, count), prefix=settings.prefix))

    with pytest.raises(
        ConfigurationError,
        match=rf"topic {settings.topic('orders')} has 3 partitions where TASKBRIDGE says {count}: .*{remedy}",
    ):
        other.ensure_topics(["orders"])
    assert admin.depth(settings.topic("fraud")) is None


def test_groups_of_new_topics_begin_at_their_start_and_nothing_is_overwritten(
    admin: KafkaAdmin, settings: Settings
) -> None:
    admin.ensure_topics(["orders"])
    live, shadow = settings.group("orders"), settings.group("orders", "shadow")
    none_yet = {0: 0, 1: 0, 2: 0}
    expected = [
        Seeding(live, settings.topic("orders"), none_yet),
        Seeding(shadow, settings.shadow_topic("orders"), none_yet),
    ]

    assert admin.seed_offsets("orders", dry_run=True) == expected
    assert admin.seed_offsets("orders") == expected

    produce(settings, settings.topic("orders"), partition=1, count=5)
    store_offset(settings, live, settings.topic("orders"), 1, 3)
    for start in (None, "earliest", "latest"):
        assert [seeding.seeded for seeding in admin.seed_offsets("orders", start)] == [{}, {}]  # type: ignore[arg-type]
    assert [item.committed for item in admin.lag("orders").partitions] == [0, 3, 0]


def test_where_records_are_only_a_person_can_say_where_to_begin(admin: KafkaAdmin, settings: Settings) -> None:
    admin.ensure_topics(["orders", "fraud"])
    produce(settings, settings.topic("orders"), partition=2, count=4)
    produce(settings, settings.shadow_topic("fraud"), partition=0, count=2)

    with pytest.raises(
        ConfigurationError, match=rf"group {settings.group('orders')} has no valid offset in partition 2 of"
    ):
        admin.seed_offsets("orders")
    assert admin.lag("orders").why_incomplete == "no committed or end offset for partition 0, 1, 2"

    assert admin.seed_offsets("orders", "latest")[0].seeded == {0: 0, 1: 0, 2: 4}
    assert admin.seed_offsets("fraud", "earliest")[1].seeded == {0: 0, 1: 0}


def test_an_offset_that_the_topic_does_not_have_is_none(admin: KafkaAdmin, settings: Settings) -> None:
    admin.ensure_topics(["orders"])
    admin.seed_offsets("orders")
    produce(settings, settings.topic("orders"), partition=0, count=2)
    store_offset(settings, settings.group("orders"), settings.topic("orders"), 0, 7)

    with pytest.raises(ConfigurationError, match="no valid offset in partition 0"):
        admin.seed_offsets("orders")
    assert admin.seed_offsets("orders", "earliest")[0].seeded == {0: 0}


def test_a_group_with_members_is_not_touched(admin: KafkaAdmin, member: Consumer) -> None:
    with pytest.raises(ConfigurationError, match="lacks offsets but has running consumers: stop its workers"):
        admin.seed_offsets("orders")
    member.poll(0)
    assert [item.committed for item in admin.lag("orders").partitions] == [None, None, None]


def test_lag_leaves_out_what_is_finished_beyond_the_committed_offset(admin: KafkaAdmin, settings: Settings) -> None:
    admin.ensure_topics(["orders"])
    admin.seed_offsets("orders")
    produce(settings, settings.topic("orders"), partition=0, count=10)
    produce(settings, settings.topic("orders"), partition=1, count=2)
    tracker = PartitionTracker(0)
    for offset in range(10):
        tracker.fetched(offset)
    for offset in (0, 1, 4, 5, 9):
        tracker.finish(offset)
    group, topic = settings.group("orders"), settings.topic("orders")
    store_offset(settings, group, topic, 0, tracker.watermark(), tracker.metadata())

    expected = Lag(group, topic, (PartitionLag(0, 2, 10, 3), PartitionLag(1, 0, 2), PartitionLag(2, 0, 0)))
    assert admin.lag("orders") == expected
    assert expected.total == 7
    assert admin.depth(topic) == 12


def test_lag_of_a_topic_that_is_not_there_is_not_zero_but_unknown(admin: KafkaAdmin, settings: Settings) -> None:
    lag = admin.lag("orders", "shadow")

    assert lag.partitions == ()
    assert lag.why_incomplete == "the topic does not exist"
    with pytest.raises(ConfigurationError, match="does not exist: create it with `taskbridge topics`"):
        admin.seed_offsets("orders")


def test_a_kafka_that_is_not_there_is_named_within_its_time(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    away = replace(settings, kafka=replace(settings.kafka, bootstrap_servers="127.0.0.1:1"))
    began = time.monotonic()

    with pytest.raises(
        BrokerUnavailable, match=r"Kafka at 127\.0\.0\.1:1 did not answer within 1 s .*refused.*: check KAFKA_"
    ):
        KafkaAdmin(away, timeout=1.0).ensure_topics(["orders"])
    assert time.monotonic() - began < 60
    assert capfd.readouterr() == ("", "")


def test_the_command_creates_what_is_missing(
    settings: Settings, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: SimpleNamespace(settings=settings))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(topics, arguments, obj="project", catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    dry = run("orders", "--dry-run")
    assert f"topic {topic_prefix}.orders, 3 partitions: missing" in dry
    created = run("orders")
    assert f"topic {topic_prefix}.orders, 3 partitions: created" in created
    assert f"group {topic_prefix}.orders: was given first offsets in 3 partitions" in created
    every = json.loads(run("--json"))
    assert {state["name"]: state["state"] for state in every["topics"]}[f"{topic_prefix}.fraud"] == "created"
    assert all(state["state"] == "ok" for state in json.loads(run("--json"))["topics"])
    with pytest.raises(ConfigurationError, match="there is no service 'order'"):
        run("order")
