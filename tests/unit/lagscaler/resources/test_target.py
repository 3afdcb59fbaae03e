"""Deployments, and who else scales them."""

from __future__ import annotations

from typing import Any

import pytest

from lagscaler.resources.reading import Key, time_text, version_of
from lagscaler.resources.target import Claim, parse_claim, parse_target, selector_text
from tests.unit.lagscaler.builders import deployment_body, metadata


def test_a_deployment() -> None:
    found = parse_target(deployment_body(3, ready=2, version=41))
    assert (found.key, found.version) == (Key("shop", "worker"), 41)
    assert (found.replicas, found.present, found.ready, found.selector) == (3, 3, 2, "app=worker")
    assert found.writer == ""
    assert parse_target({"metadata": metadata("new"), "spec": {}}).replicas == 1


def test_the_last_writer_of_the_replicas_is_who_owns_them() -> None:
    def entry(manager: str, time: str, *fields: str) -> dict[str, Any]:
        return {"manager": manager, "time": time, "fieldsV1": {"f:spec": {name: {} for name in fields}}}

    body = deployment_body(3)
    body["metadata"]["managedFields"] = [
        entry("helm", "2026-01-01T00:00:00Z", "f:replicas"), entry("kubectl", "2026-01-02T00:00:00Z", "f:replicas"),
        entry("editor", "2026-01-03T00:00:00Z", "f:template"), {"manager": "odd"},
    ]  # fmt: skip
    assert parse_target(body).writer == "kubectl"


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({}, ""),
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ({"matchExpressions": [{"key": "k", "operator": "In", "values": ["y", "x"]}]}, "k in (x,y)"),
        ({"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["x"]}]}, "k notin (x)"),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]}, "a=1,k"),
        ({"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}, "!k"),
    ],
)
def test_a_selector_as_kubectl_writes_it(selector: dict[str, Any], text: str) -> None:
    assert selector_text(selector) == text


def test_claims() -> None:
    body = {"metadata": metadata("hpa"), "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "worker"}}}
    claim = Claim("HorizontalPodAutoscaler", Key("shop", "hpa"), Key("shop", "worker"))
    assert parse_claim("HorizontalPodAutoscaler", body) == claim
    assert parse_claim("ScaledObject", {**body, "spec": {"scaleTargetRef": {"name": "worker"}}}) == Claim(
        "ScaledObject", claim.key, claim.target
    )
    for aim in ({"kind": "StatefulSet", "name": "worker"}, {"kind": "Deployment"}, {}, None):
        assert parse_claim("HorizontalPodAutoscaler", {**body, "spec": {"scaleTargetRef": aim}}) is None


def test_times_and_versions() -> None:
    assert time_text(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert version_of({"metadata": {"resourceVersion": "12"}}) == 12
    assert version_of({"metadata": {"resourceVersion": "abc"}}) == 0
