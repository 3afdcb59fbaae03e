"""A KafkaConnect as a Deployment: what Strimzi's cluster operator would run, with the image of this project."""

from collections.abc import Mapping, Sequence
from typing import Any

from standin.errors import StandinError
from standin.resources import API, text

__all__ = ["connect_workload"]

PORT = 8083
"""Where Connect's REST interface listens."""

_PASSWORD = "kafka-password"  # noqa: S105 - the name of a volume
_MOUNT = "/etc/kafka-password"


def connect_workload(
    resource: Mapping[str, Any], image: str, bootstrap: str, protocol: str = "SASL_PLAINTEXT"
) -> list[dict[str, Any]]:
    """
    Return the Deployment of a KafkaConnect, and the Service `<name>-connect-api` as Strimzi names it.

    `image` runs Connect as `images/kafka` does. `bootstrap` and `protocol` take the place of the resource's, since the
    Kafka is another one. Raises StandinError for what is no KafkaConnect that Strimzi would take.
    """
    if resource.get("kind") != "KafkaConnect" or resource.get("apiVersion") != API:
        raise StandinError(f"this is no KafkaConnect of {API}: {resource.get('apiVersion')} {resource.get('kind')}.")
    metadata, spec = resource["metadata"], resource["spec"]
    name, namespace = metadata["name"], metadata["namespace"]
    labels = {"strimzi.io/cluster": name, "strimzi.io/kind": "KafkaConnect", "strimzi.io/name": f"{name}-connect"}
    pod, container = (spec.get("template", {}).get(part, {}) for part in ("pod", "connectContainer"))
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}, *pod.get("volumes", [])]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, *container.get("volumeMounts", [])]  # noqa: S108
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA_SECURITY_PROTOCOL": protocol,
        "CONNECT_GROUP_ID": spec["groupId"],
        "CONNECT_CONFIG_TOPIC": spec["configStorageTopic"],
        "CONNECT_OFFSET_TOPIC": spec["offsetStorageTopic"],
        "CONNECT_STATUS_TOPIC": spec["statusStorageTopic"],
        "CONNECT_HEAP": spec["jvmOptions"]["-Xmx"],
        "CONNECT_PROPERTIES": "\n".join(f"{key}={text(value)}" for key, value in spec.get("config", {}).items()),
    }
    if login := spec.get("authentication"):
        secret = login["passwordSecret"]
        items = [{"key": secret["password"], "path": "password"}]
        volumes.append({"name": _PASSWORD, "secret": {"secretName": secret["secretName"], "items": items}})
        mounts.append({"name": _PASSWORD, "mountPath": _MOUNT, "readOnly": True})
        environment |= {
            "KAFKA_SASL_USERNAME": login["username"],
            "KAFKA_SASL_MECHANISMS": login["type"].upper(),
            "KAFKA_SASL_PASSWORD_FILE": f"{_MOUNT}/password",
        }
    body = {
        "name": "connect",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["connect"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"name": "rest-api", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "rest-api"}, "periodSeconds": 2, "timeoutSeconds": 5},
        "resources": spec.get("resources", {}),
        "securityContext": container.get("securityContext", {}),
        "volumeMounts": mounts,
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {**pod.get("securityContext", {}), "fsGroup": 10001},
            "containers": [body],
            "volumes": volumes,
        },
    }
    selector = {"matchLabels": labels}
    return [
        _resource("apps/v1", "Deployment", f"{name}-connect", namespace, labels)
        | {"spec": {"replicas": spec["replicas"], "selector": selector, "template": template}},
        _resource("v1", "Service", f"{name}-connect-api", namespace, labels)
        | {"spec": {"selector": labels, "ports": _ports()}},
    ]


def _resource(api: str, kind: str, name: str, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": api, "kind": kind, "metadata": metadata}


def _ports() -> Sequence[Mapping[str, Any]]:
    return [{"name": "rest-api", "port": PORT, "targetPort": "rest-api"}]
