"""Every wrong setting is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import KafkaSettings, Settings

KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092"}
ORDERS: dict[str, Any] = {"tasks": ["shop.orders.*"]}


def build(**mapping: Any) -> Settings:
    return Settings.from_mapping({"services": {"orders": ORDERS}} | mapping, KAFKA)


def test_names_of_topics_and_groups() -> None:
    settings = build(prefix="shop")

    assert settings.topic("orders") == "shop.orders"
    assert settings.shadow_topic("orders") == "shop.orders.shadow"
    assert settings.dead_letter_topic("orders") == "shop.orders.dlq"
    assert settings.observations_topic == "shop.observations"
    assert settings.group("orders") == "shop.orders"
    assert settings.group("orders", "shadow") == "shop.orders.shadow"


def test_lists_may_be_written_where_tuples_are_kept() -> None:
    service = build(services={"orders": {"tasks": ["a.*"], "queues": ("b",), "replication_factor": -1}}).service(
        "orders"
    )

    assert (service.tasks, service.queues, service.replication_factor) == (("a.*",), ("b",), -1)


def test_an_unknown_service_is_refused_with_the_known_ones() -> None:
    settings = build(services={"orders": ORDERS, "fraud": ORDERS})

    with pytest.raises(ConfigurationError, match="no service 'order'; TASKBRIDGE names: fraud, orders"):
        settings.service("order")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"services": {}}, r'TASKBRIDGE\["services"\] must name at least one service'),
        ({"services": ["orders"]}, r'TASKBRIDGE\["services"\] must name at least one service'),
        ({"services": {"Orders": ORDERS}}, "service 'Orders': use up to 63 lower-case"),
        ({"services": {"orders": []}}, r'\["orders"\] must be a mapping'),
        ({"services": {"orders": {}}}, 'needs "tasks" or "queues"'),
        ({"services": {"orders": {"tasks": "a.*"}}}, r'\["orders"\]\["tasks"\] must be a list of strings'),
        ({"services": {"orders": {"tasks": [1]}}}, r'\["orders"\]\["tasks"\] must be a list of strings'),
        ({"services": {"orders": ORDERS | {"keys": {"a": 1}}}}, r'\["keys"\] must be a mapping of strings'),
        ({"services": {"orders": ORDERS | {"partition": 3}}}, r'\["partition"\] is not a setting; known: floor'),
        ({"services": {"orders": ORDERS | {"partitions": "3"}}}, r'\["partitions"\] must be an integer'),
        ({"services": {"orders": ORDERS | {"partitions": True}}}, r'\["partitions"\] must be an integer'),
        ({"services": {"orders": ORDERS | {"partitions": 0}}}, r'\["partitions"\] must be above 0, not 0'),
        ({"services": {"orders": ORDERS | {"max_deliveries": 0}}}, r'\["max_deliveries"\] must be above 0'),
        ({"services": {"orders": ORDERS | {"replication_factor": 0}}}, r'\["replication_factor"\] must be above 0'),
        ({"services": {"orders": ORDERS | {"retention": -1}}}, r'\["retention"\] must be above 0'),
        ({"services": {"orders": ORDERS | {"observe": 1}}}, r'\["observe"\] must be True or False'),
        ({"prefix": "a.b"}, r"TASKBRIDGE\[\"prefix\"\] 'a.b': use up to 63"),
        ({"prefix": 3}, r'TASKBRIDGE\["prefix"\] must be a string'),
        ({"kafka": {}}, "Kafka is configured by KAFKA_"),
        ({"colour": "red"}, r'TASKBRIDGE\["colour"\] is not a setting; known: '),
        ({"flag_max_age": "1"}, r'TASKBRIDGE\["flag_max_age"\] must be a number'),
        ({"publish_timeout": 0}, r'TASKBRIDGE\["publish_timeout"\] must be above 0'),
        ({"publish_timeout": float("nan")}, r'TASKBRIDGE\["publish_timeout"\] must be above 0'),
        ({"group_protocol": "share"}, '"consumer" or "classic"'),
    ],
)
def test_a_wrong_setting_is_named(mapping: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build(**mapping)


def test_settings_must_be_a_mapping() -> None:
    with pytest.raises(ConfigurationError, match="must be a mapping"):
        Settings.from_mapping([], KAFKA)  # type: ignore[arg-type]


def test_kafka_properties_from_the_environment(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("certificate")
    settings = KafkaSettings.from_environment(
        {
            "KAFKA_BOOTSTRAP_SERVERS": " a:1,b:2 ",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISMS": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": "shop",
            "KAFKA_SASL_PASSWORD": "swordfish",
            "KAFKA_SSL_CA_LOCATION": str(authority),
            "KAFKA_HEAP_OPTS": "-Xmx1g",
        }
    )

    assert settings.client_config() == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-512",
        "sasl.username": "shop",
        "sasl.password": "swordfish",
        "ssl.ca.location": str(authority),
    }
    assert "swordfish" not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "KAFKA_BOOTSTRAP_SERVERS is not set"),
        ({"KAFKA_BOOTSTRAP_SERVERS": " "}, "KAFKA_BOOTSTRAP_SERVERS is not set"),
        (KAFKA | {"KAFKA_SECURITY_PROTOCOL": "TLS"}, "'TLS': it must be one of PLAINTEXT, SSL"),
        (
            KAFKA | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_PASSWORD": "swordfish"},
            "also needs KAFKA_SASL_MECHANISMS, KAFKA_SASL_USERNAME$",
        ),
        (
            KAFKA | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "shop"},
            "also needs KAFKA_SASL_MECHANISMS, KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE$",
        ),
        (KAFKA | {"KAFKA_SSL_CA_LOCATION": "/no/such/file"}, "KAFKA_SSL_CA_LOCATION names /no/such/file"),
    ],
)
def test_a_wrong_variable_is_named_and_no_secret_shown(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        KafkaSettings.from_environment(environment)

    assert "swordfish" not in str(refused.value)


SASL = KAFKA | {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISMS": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "shop",
}


def test_a_password_from_a_file_is_what_the_file_holds_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("swordfish\n")
    settings = KafkaSettings.from_environment(SASL | {"KAFKA_SASL_PASSWORD_FILE": str(path)})
    assert settings.client_config()["sasl.password"] == "swordfish"
    assert "sasl.password.file" not in settings.client_config()
    path.write_text("marlin")
    assert settings.client_config()["sasl.password"] == "marlin"


@pytest.mark.parametrize(
    ("content", "more", "words"),
    [
        (None, {}, "KAFKA_SASL_PASSWORD_FILE names .*/password, which cannot be read: No such file or directory$"),
        (b"\n", {}, "KAFKA_SASL_PASSWORD_FILE names .*/password, which is empty$"),
        (b"\xff", {}, "which cannot be read: it is not text$"),
        (b"swordfish", {"KAFKA_SASL_PASSWORD": "swordfish"}, "are both set: unset the one that is not meant$"),
    ],
)
def test_a_password_file_that_is_of_no_use_is_named(
    tmp_path: Path, content: bytes | None, more: dict[str, str], words: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as refused:
        KafkaSettings.from_environment(SASL | {"KAFKA_SASL_PASSWORD_FILE": str(path)} | more)
    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize("publish", ["barrier", "outbox"])
def test_an_ordered_service_confirms_every_message(publish: str) -> None:
    services = {"orders": {"tasks": ["orders.*"], "ordered": True, "publish": publish}}
    with pytest.raises(ConfigurationError, match=f"goes with \"confirm\" only, not with '{publish}'"):
        Settings.from_mapping({"services": services}, {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1"})
