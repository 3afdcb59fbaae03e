"""Users' passwords, kept where Strimzi keeps them: in Secrets."""

import base64
import json
import secrets
import string
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from standin.errors import StandinError
from standin.resources import User

__all__ = ["ClusterSecrets", "FolderSecrets", "SecretStore", "manifest", "password_of"]

LENGTH = 32
"""Characters of a password, as Strimzi makes them."""


class SecretStore(Protocol):
    """Where Secrets are."""

    def get(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return a Secret's values, decoded, or None when there is no such Secret."""
        ...

    def put(self, secret: Mapping[str, Any]) -> None:
        """Write a Secret; one of this name is replaced."""
        ...


class FolderSecrets:
    """Secrets as manifests in a folder, `NAMESPACE/NAME.yaml`, that nobody else may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, namespace: str, name: str) -> Mapping[str, str] | None:
        file = self._file(namespace, name)
        return decoded(yaml.safe_load(file.read_text())) if file.is_file() else None

    def put(self, secret: Mapping[str, Any]) -> None:
        file = self._file(secret["metadata"]["namespace"], secret["metadata"]["name"])
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(dict(secret), sort_keys=False))

    def _file(self, namespace: str, name: str) -> Path:
        return self._folder / namespace / f"{name}.yaml"


class ClusterSecrets:
    """The Secrets of the cluster that a `kubectl` talks to."""

    def __init__(self, kubectl: str = "kubectl") -> None:
        self._kubectl = kubectl

    def get(self, namespace: str, name: str) -> Mapping[str, str] | None:
        found = self._run("get", "secret", name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
        return decoded(json.loads(found)) if found.strip() else None

    def put(self, secret: Mapping[str, Any]) -> None:
        # Through the standard input: arguments are visible to every user of the machine.
        self._run("apply", "--server-side", "--force-conflicts", "--filename", "-", given=json.dumps(secret))

    def _run(self, *arguments: str, given: str = "") -> str:
        outcome = subprocess.run([self._kubectl, *arguments], input=given, capture_output=True, text=True, check=False)
        if outcome.returncode:
            raise StandinError(f"`kubectl {' '.join(arguments)}` failed: {outcome.stderr.strip()}")
        return outcome.stdout


def password_of(user: User, store: SecretStore) -> str:
    """
    Return a user's password: the one that its resource refers to, else the one that it has already, else a new one.

    Raises StandinError when what the resource refers to is not there.
    """
    if user.password is not None:
        found = store.get(user.namespace, user.password.secret) or {}
        if user.password.key not in found:
            raise StandinError(
                f"KafkaUser {user.name} takes its password from key {user.password.key} of the Secret "
                f"{user.password.secret} in namespace {user.namespace}, which is not there: create it."
            )
        return found[user.password.key]
    known = store.get(user.namespace, user.name) or {}
    if "password" in known:
        return known["password"]
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(LENGTH))


def manifest(user: User, password: str) -> dict[str, Any]:
    """Return the Secret that Strimzi's user operator writes for a user."""
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    values = {"password": password, "sasl.jaas.config": f'{login} username="{user.name}" password="{password}";'}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": user.name,
            "namespace": user.namespace,
            "labels": {
                "app.kubernetes.io/instance": user.name,
                "app.kubernetes.io/managed-by": "strimzi-user-operator",
                "app.kubernetes.io/name": "strimzi-user-operator",
                "strimzi.io/cluster": user.cluster,
                "strimzi.io/kind": "KafkaUser",
            },
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def decoded(secret: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the values of a Secret's manifest."""
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
