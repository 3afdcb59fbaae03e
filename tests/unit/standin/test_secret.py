"""Passwords and the Secrets that hold them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from standin.errors import StandinError
from standin.resources import SecretKey, User
from standin.secret import LENGTH, ClusterSecrets, FolderSecrets, decoded, manifest, password_of

USER = User("shop-web", "shop", "main", frozenset())


def test_a_secret_has_strimzis_shape() -> None:
    secret = manifest(USER, "pass")

    assert secret["metadata"]["name"] == "shop-web"
    assert secret["metadata"]["namespace"] == "shop"
    assert secret["metadata"]["labels"]["strimzi.io/kind"] == "KafkaUser"
    values = decoded(secret)
    assert values["password"] == "pass"
    assert values["sasl.jaas.config"] == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="shop-web" password="pass";'
    )


def test_a_password_is_made_once_and_kept(tmp_path: Path) -> None:
    store = FolderSecrets(tmp_path)
    first = password_of(USER, store)
    assert len(first) == LENGTH
    assert password_of(USER, store) != first, "it was not stored, so another one is made"

    store.put(manifest(USER, first))

    assert password_of(USER, FolderSecrets(tmp_path)) == first
    file = tmp_path / "shop" / "shop-web.yaml"
    assert file.stat().st_mode & 0o077 == 0


def test_a_password_that_was_chosen_is_taken(tmp_path: Path) -> None:
    store = FolderSecrets(tmp_path)
    chosen = User("shop-web", "shop", "main", frozenset(), SecretKey("given", "password"))
    with pytest.raises(StandinError, match="key password of the Secret given in namespace shop, which is not there"):
        password_of(chosen, store)

    store.put(manifest(User("given", "shop", "main", frozenset()), "theirs"))

    assert password_of(chosen, store) == "theirs"


def kubectl(folder: Path, does: str) -> str:
    """Return a program in the place of kubectl."""
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    return str(program)


def test_a_cluster_is_asked_and_told_without_passwords_in_arguments(tmp_path: Path) -> None:
    told, given = tmp_path / "told", tmp_path / "given"
    command = kubectl(tmp_path, f'echo "$@" >> {told}; case "$1" in apply) cat > {given};; esac')
    store = ClusterSecrets(command)

    assert store.get("shop", "shop-web") is None
    store.put(manifest(USER, "hidden-word"))

    assert "get secret shop-web --namespace shop" in told.read_text()
    assert "hidden-word" not in told.read_text()
    assert decoded(json.loads(given.read_text()))["password"] == "hidden-word"


def test_a_cluster_that_refuses_is_quoted(tmp_path: Path) -> None:
    command = kubectl(tmp_path, "echo 'the server is away' >&2; exit 1")

    with pytest.raises(StandinError, match="failed: the server is away"):
        ClusterSecrets(command).get("shop", "shop-web")
