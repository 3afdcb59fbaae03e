"""What Strimzi's resources ask for."""

from __future__ import annotations

from typing import Any

import pytest

from standin.errors import StandinError
from standin.resources import Acl, SecretKey, read

CLUSTER = {"strimzi.io/cluster": "main"}


def resource(kind: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": kind,
        "metadata": {"name": "it", "labels": CLUSTER, **metadata},
        "spec": spec,
    }


def user(*acls: dict[str, Any], **spec: Any) -> dict[str, Any]:
    authorization = {"type": "simple", "acls": list(acls)}
    return resource("KafkaUser", {"authentication": {"type": "scram-sha-512"}, "authorization": authorization, **spec})


def test_a_topic_may_have_another_name_than_its_resource() -> None:
    config = {"retention.ms": 1000, "cleanup.policy": "compact", "preallocate": True}
    (topic,) = read([resource("KafkaTopic", {"topicName": "a.b_C", "partitions": 3, "config": config})]).topics

    assert (topic.name, topic.partitions, topic.replicas) == ("a.b_C", 3, -1)
    assert topic.config == {"retention.ms": "1000", "cleanup.policy": "compact", "preallocate": "true"}


def test_a_topic_leaves_to_the_brokers_what_it_does_not_say() -> None:
    (topic,) = read([resource("KafkaTopic", {})]).topics

    assert (topic.name, topic.partitions, topic.replicas, topic.config) == ("it", -1, -1, {})


@pytest.mark.parametrize(
    ("rule", "acls"),
    [
        (
            {"resource": {"type": "topic", "name": "t"}, "operations": ["Read", "DescribeConfigs"]},
            {Acl("TOPIC", "t", "LITERAL", "READ"), Acl("TOPIC", "t", "LITERAL", "DESCRIBE_CONFIGS")},
        ),
        (
            {"resource": {"type": "group", "name": "g", "patternType": "prefix"}, "operations": ["Read"], "host": "h"},
            {Acl("GROUP", "g", "PREFIXED", "READ", host="h")},
        ),
        (
            {"resource": {"type": "cluster"}, "operations": ["IdempotentWrite"]},
            {Acl("BROKER", "kafka-cluster", "LITERAL", "IDEMPOTENT_WRITE")},
        ),
        (
            {"resource": {"type": "transactionalId", "name": "x"}, "operations": ["Write"], "type": "deny"},
            {Acl("TRANSACTIONAL_ID", "x", "LITERAL", "WRITE", "DENY")},
        ),
    ],
)
def test_rules_become_rights(rule: dict[str, Any], acls: set[Acl]) -> None:
    (one,) = read([user(rule)]).users

    assert one.acls == acls
    assert one.cluster == "main"


def test_a_user_is_in_the_namespace_of_its_resource_or_of_the_release() -> None:
    here, there = user(), user()
    there["metadata"] = {**there["metadata"], "namespace": "shop"}

    assert [one.namespace for one in read([here, there], "kafka").users] == ["kafka", "shop"]


def test_a_password_may_be_chosen_by_somebody_else() -> None:
    reference = {"valueFrom": {"secretKeyRef": {"name": "given", "key": "word"}}}
    (one,) = read([user(authentication={"type": "scram-sha-512", "password": reference})]).users

    assert one.password == SecretKey("given", "word")


def test_a_connector_has_its_class_and_its_tasks_in_its_configuration() -> None:
    spec = {"class": "org.example.Source", "tasksMax": 2, "config": {"a.flag": True, "a.number": 5}}
    (connector,) = read([resource("KafkaConnector", spec)]).connectors

    assert connector.config == {
        "connector.class": "org.example.Source",
        "tasks.max": "2",
        "a.flag": "true",
        "a.number": "5",
    }


def test_other_resources_are_passed_over_and_quotas_are_mentioned() -> None:
    wanted = read([{"kind": "ConfigMap"}, resource("Kafka", {}), user(quotas={"producerByteRate": 1})])

    assert len(wanted.users) == 1
    assert wanted.ignored == ("KafkaUser it: quotas are not applied, the Kafka client cannot set them.",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apiVersion": "kafka.strimzi.io/v1alpha1"}, "KafkaUser it is of kafka.strimzi.io/v1alpha1"),
        ({"metadata": {"name": "it"}}, "has no label strimzi.io/cluster"),
        ({"spec": {"authentication": {"type": "tls"}}}, "logs in by tls"),
    ],
)
def test_what_strimzi_would_not_do_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StandinError, match=message):
        read([{**user(), **change}])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"resource": {"type": "topics", "name": "t"}, "operations": ["Read"]}, "'topics'"),
        ({"resource": {"type": "topic", "name": "t"}, "operations": ["READ"]}, "operation 'READ'"),
    ],
)
def test_words_that_strimzi_does_not_know_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(StandinError, match=message):
        read([user(rule)])
