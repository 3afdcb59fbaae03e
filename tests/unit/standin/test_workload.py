"""The Deployment of a KafkaConnect: the resource's own words, told to the image in the image's."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from standin.errors import StandinError
from standin.workload import connect_workload

IMAGE = "example/kafka:1"
RESOURCE: dict[str, Any] = {
    "apiVersion": "kafka.strimzi.io/v1",
    "kind": "KafkaConnect",
    "metadata": {"name": "shop-connect", "namespace": "shop"},
    "spec": {
        "replicas": 2,
        "groupId": "shop.connect",
        "configStorageTopic": "configs",
        "offsetStorageTopic": "offsets",
        "statusStorageTopic": "status",
        "authentication": {
            "type": "scram-sha-512",
            "username": "shop-connect",
            "passwordSecret": {"secretName": "given", "password": "word"},
        },
        "config": {"config.storage.replication.factor": 1, "some.switch": True},
        "resources": {"limits": {"memory": "1Gi"}},
        "jvmOptions": {"-Xms": "300m", "-Xmx": "300m"},
        "template": {
            "pod": {
                "securityContext": {"runAsNonRoot": True},
                "volumes": [{"name": "outbox-database", "secret": {"secretName": "outbox"}}],
            },
            "connectContainer": {
                "securityContext": {"readOnlyRootFilesystem": True},
                "volumeMounts": [{"name": "outbox-database", "mountPath": "/mnt/outbox-database", "readOnly": True}],
            },
        },
    },
}


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(RESOURCE) | changes


def test_what_the_resource_says_is_told_to_the_image() -> None:
    deployment, service = connect_workload(RESOURCE, IMAGE, "kafka:9092")
    assert deployment["spec"]["replicas"] == 2
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment == {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_USERNAME": "shop-connect",
        "KAFKA_SASL_MECHANISMS": "SCRAM-SHA-512",
        "KAFKA_SASL_PASSWORD_FILE": "/etc/kafka-password/password",
        "CONNECT_GROUP_ID": "shop.connect",
        "CONNECT_CONFIG_TOPIC": "configs",
        "CONNECT_OFFSET_TOPIC": "offsets",
        "CONNECT_STATUS_TOPIC": "status",
        "CONNECT_HEAP": "300m",
        "CONNECT_PROPERTIES": "config.storage.replication.factor=1\nsome.switch=true",
    }
    assert container["image"] == IMAGE
    assert container["securityContext"] == {"readOnlyRootFilesystem": True}
    mounts = [one["mountPath"] for one in container["volumeMounts"] if one["name"] != "tmp"]
    assert mounts == ["/mnt/outbox-database", "/etc/kafka-password"]
    secrets = {one["name"]: one["secret"] for one in spec["volumes"] if "secret" in one}
    assert secrets["outbox-database"] == {"secretName": "outbox"}
    assert secrets["kafka-password"] == {"secretName": "given", "items": [{"key": "word", "path": "password"}]}
    assert service["metadata"]["name"] == "shop-connect-connect-api"
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_a_kafka_without_users_needs_no_password() -> None:
    spec = {key: value for key, value in RESOURCE["spec"].items() if key != "authentication"}
    deployment, _ = connect_workload(changed(spec=spec), IMAGE, "kafka:9092", "PLAINTEXT")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert not [one for one in container["env"] if "SASL_" in one["name"] and "SASL_PLAINTEXT" not in one["value"]]
    assert [one["name"] for one in container["volumeMounts"]] == ["tmp", "outbox-database"]


@pytest.mark.parametrize("wrong", [{"kind": "KafkaConnector"}, {"apiVersion": "kafka.strimzi.io/v1beta2"}])
def test_what_is_no_kafka_connect_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(StandinError, match=r"this is no KafkaConnect of kafka\.strimzi\.io/v1"):
        connect_workload(changed(**wrong), IMAGE, "kafka:9092")
