"""
charts/kafka and charts/operator on the way from the version before to this one, back, and forward again.

The API server is all that is asked: nobody acts on what it keeps. charts/shop goes the same way in test_system.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.kube import ROOT, Kube
from tests.cluster.previous import previous_chart

Parts = dict[tuple[str, str], dict[str, Any]]
"""Resources by kind and name."""

STRIMZI = "kafkas,kafkanodepools,kafkatopics,kafkausers,kafkaconnects,kafkaconnectors"

DEFINITIONS = ("kafkaconsumers.taskbridge.dev", "cutovers.taskbridge.dev")


@pytest.fixture
def place(defined: Kube) -> Iterator[str]:
    name = f"versions-{uuid4().hex[:8]}"
    defined.run("create", "namespace", name)
    yield name
    defined.run("delete", "namespace", name, "--wait=false")


def test_nothing_of_kafka_is_made_anew(defined: Kube, place: str, tmp_path: Path) -> None:
    before = _before("kafka", tmp_path)
    kinds = f"{STRIMZI},configmaps,networkpolicies,podmonitors,prometheusrules"

    def parts() -> Parts:
        return _parts(defined.get(kinds, place, "--selector", "app.kubernetes.io/instance=main")["items"])

    # The values are those that the version before was given.
    values = ("--values", str(before / "ci/outbox-values.yaml"), "--set", f"users.namespace={place}")
    _there_and_back(defined, "main", place, before, values, parts)
    made = {"Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser", "KafkaConnect", "KafkaConnector"}
    assert {kind for kind, _ in parts()} >= made
    defined.helm("uninstall", "main", "--namespace", place)
    # Topics are what holds the records, and the ConfigMap says how the database is given back.
    assert {kind for kind, _ in parts()} == {"KafkaTopic", "ConfigMap"}


def test_consumers_and_cutovers_outlive_each_version_of_their_definitions(
    defined: Kube, place: str, tmp_path: Path
) -> None:
    before = _before("operator", tmp_path)
    seen: list[Parts] = []

    def own() -> Parts:
        return _parts(defined.get(",".join(DEFINITIONS), place)["items"])

    def definitions() -> Parts:
        """Return the definitions, once some were made by this version of them, and all that are there were changed."""
        defined.run("wait", "--for=condition=Established", *(f"crd/{name}" for name in DEFINITIONS))
        number = len(seen) + 1
        defined.apply(
            _consumer(place, f"auto-{number}", {}),
            _consumer(place, f"manual-{number}", {"mode": "Manual", "replicas": 3}),
            _ours("Cutover", place, f"orders-{number}", {"service": "orders", "stage": "live", "percent": 5}),
        )
        for kind, name in own():
            spec = {"reason": f"look {number}"} if kind == "Cutover" else {"slo": {"latencySeconds": 30 + number}}
            patch = json.dumps({"spec": spec})
            defined.run("patch", kind, name, "--namespace", place, "--type=merge", "--patch", patch)
        seen.append(own())
        return _parts(defined.get("customresourcedefinitions", place, *DEFINITIONS)["items"])

    # There is one set of definitions, and it belongs to the release of this name. No image is there for it, nor needed.
    release, home = "lagscaler", "shop"
    values = ("--values", str(before / "ci/minimal-values.yaml"), "--set", "image.pullPolicy=Never")
    defined.helm("uninstall", release, "--namespace", home, "--ignore-not-found", "--wait")
    try:
        _there_and_back(defined, release, home, before, values, definitions)
    finally:
        defined.helm("uninstall", release, "--namespace", home, "--ignore-not-found", "--wait")
    seen.append(own())
    for earlier, later in pairwise(seen):
        for key, part in earlier.items():
            assert later[key]["metadata"]["uid"] == part["metadata"]["uid"]
            assert _meant(later[key]) == _meant(part), key


def _there_and_back(
    kube: Kube, release: str, namespace: str, before: Path, values: tuple[str, ...], look: Callable[[], Parts]
) -> None:
    """Install the version before, upgrade to this one, roll back, and then forward; nothing is made anew."""
    where = ("--namespace", namespace)
    today = ROOT / "charts" / before.name
    looks = []
    for step in (
        ("install", release, str(before), *where, *values),
        ("upgrade", release, str(today), *where, *values),
        ("rollback", release, "1", *where),
        ("rollback", release, "2", *where),
    ):
        kube.helm(*step)
        looks.append(look())
    older, newer, back, forward = looks
    assert _content(older) != _content(newer)
    assert _content(back) == _content(older)
    assert _content(forward) == _content(newer)
    assert older.keys() <= newer.keys()
    for one in (newer, back, forward):
        assert {key: one[key]["metadata"]["uid"] for key in older} == {
            key: part["metadata"]["uid"] for key, part in older.items()
        }


def _before(chart: str, folder: Path) -> Path:
    found = previous_chart(chart, ROOT, folder)
    assert found is not None, "the version before is not in this checkout: fetch its whole history"
    return found


def _parts(items: list[dict[str, Any]]) -> Parts:
    return {(one["kind"], one["metadata"]["name"]): one for one in items}


def _content(parts: Parts) -> dict[tuple[str, str], Any]:
    return {key: part.get("spec", part.get("data")) for key, part in parts.items()}


def _meant(part: dict[str, Any]) -> dict[str, Any]:
    """Return what a consumer or a cutover asks for; no number of replicas in mode Auto was once written as zero."""
    fields = ("mode", "replicas", "group", "topics", "service", "stage", "percent")
    return {field: part["spec"][field] for field in fields if part["spec"].get(field)}


def _ours(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "taskbridge.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _consumer(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    about = {"targetRef": {"kind": "Deployment", "name": name}, "group": name, "topics": [name]}
    return _ours("KafkaConsumer", namespace, name, {**about, **spec})
