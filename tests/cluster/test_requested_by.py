"""A request to a Cutover names the user who makes it, where charts/operator is told to see to that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.cluster.kube import ROOT, Kube, wait_for
from tests.cluster.operating import Town

JANE, JOE, TOOL = "jane@example.com", "joe@example.com", "system:serviceaccount:delivery:applier"

REFUSED = "a request to this Cutover has to say who makes it"


@dataclass(frozen=True)
class Place:
    """A namespace in which two people and a tool may change Cutovers."""

    kube: Kube
    namespace: str

    def change(self, user: str, patch: dict[str, Any]) -> str:
        """Return what kubectl says to a user who patches the Cutover."""
        return self.kube.run(
            "patch", "cutover", "orders", "--namespace", self.namespace, "--type=merge", "--patch", json.dumps(patch),
            f"--as={user}", check=False,
        )  # fmt: skip

    def ask(self, user: str, reason: str, named: str | None = None) -> str:
        """Return what kubectl says to a user who asks for a stage, in somebody's name."""
        patch: dict[str, Any] = {"spec": {"stage": "mirror", "reason": reason}}
        if named is not None:
            patch["metadata"] = {"annotations": {"taskbridge.dev/requested-by": named}}
        return self.change(user, patch)

    def create(self, user: str, name: str, spec: dict[str, Any]) -> str:
        """Return what kubectl says to a user who makes a Cutover."""
        item = cutover(self.namespace, name, spec)
        return self.kube.run("create", "--filename", "-", f"--as={user}", stdin=json.dumps(item), check=False)


def cutover(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "taskbridge.dev/v1alpha1", "kind": "Cutover", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def place(town: Town) -> Iterator[Place]:
    kube, namespace = town.kube, town.namespace
    rendered = kube.helm(
        "template", "lagscaler", str(ROOT / "charts" / "operator"), "--namespace", namespace,
        "--values", str(ROOT / "charts" / "operator" / "ci" / "minimal-values.yaml"),
        "--set", "requestedBy.enforce=true", "--set", f"requestedBy.trusted[0]={TOOL}",
        "--show-only", "templates/requested-by.yaml",
    )  # fmt: skip
    policies = [item for item in yaml.safe_load_all(rendered) if item]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "movers", "namespace": namespace}}
    verbs = ["create", "get", "patch", "update"]
    people = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": one} for one in (JANE, JOE, TOOL)]
    try:
        kube.apply(
            *policies,
            {
                **role,
                "kind": "Role",
                "rules": [{"apiGroups": ["taskbridge.dev"], "resources": ["cutovers"], "verbs": verbs}],
            },
            {
                **role,
                "kind": "RoleBinding",
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "movers"},
                "subjects": people,
            },
            cutover(namespace, "orders", {"service": "orders"}),
        )
        one = Place(kube, namespace)
        # The API server takes a moment to learn of a policy.
        wait_for(lambda: REFUSED in one.ask(JANE, f"try {uuid4()}"), "the policy holds")
        yield one
    finally:
        # They are the whole cluster's, not the namespace's.
        for item in policies:
            kube.run("delete", item["kind"].lower(), item["metadata"]["name"], "--ignore-not-found")


def test_the_api_server_understands_every_expression(place: Place) -> None:
    name = f"{place.namespace}-lagscaler-requested-by"

    def checked() -> Any:
        status = place.kube.get("validatingadmissionpolicy", "default", name).get("status", {})
        return status if status.get("observedGeneration") else None

    status = wait_for(checked, "the policy's types are checked")
    assert status.get("typeChecking", {}).get("expressionWarnings", []) == []


def test_without_a_name_it_is_refused_with_the_remedy(place: Place) -> None:
    said = place.ask(JANE, "first look")

    assert "taskbridge.dev/requested-by" in said
    assert JANE in said
    assert "Forbidden" in said or "denied" in said


def test_ones_own_name_is_taken_and_anothers_is_not(place: Place) -> None:
    assert REFUSED in place.ask(JANE, "as somebody else", named=JOE)
    assert "patched" in place.ask(JANE, "as myself", named=JANE)
    # The name that stands there is that of the request before.
    assert REFUSED in place.ask(JOE, "under her name")
    assert "patched" in place.ask(JOE, "under my own", named=JOE)


def test_the_name_alone_cannot_be_forged_afterwards(place: Place) -> None:
    place.ask(JOE, f"under my own {uuid4()}", named=JOE)

    assert REFUSED in place.change(JOE, {"metadata": {"annotations": {"taskbridge.dev/requested-by": JANE}}})
    assert "patched" in place.change(JOE, {"metadata": {"labels": {"team": "orders"}}})


def test_who_is_trusted_may_name_others(place: Place) -> None:
    assert "patched" in place.ask(TOOL, f"as committed {uuid4()}", named=JANE)


def test_a_cutover_that_asks_for_nothing_takes_no_name(place: Place) -> None:
    assert "created" in place.create(JANE, f"quiet-{uuid4().hex[:6]}", {"service": "payments"})
    assert REFUSED in place.create(JANE, f"loud-{uuid4().hex[:6]}", {"service": "payments", "stage": "mirror"})
    assert REFUSED in place.create(JANE, f"kill-{uuid4().hex[:6]}", {"service": "payments", "kill": True})


def test_elsewhere_nobody_is_asked(place: Place) -> None:
    elsewhere = f"{place.namespace}-b"
    place.kube.run("create", "namespace", elsewhere)
    try:
        place.kube.apply(cutover(elsewhere, "orders", {"service": "orders", "stage": "mirror"}))
        assert place.kube.get("cutover", elsewhere, "orders")["spec"]["stage"] == "mirror"
    finally:
        place.kube.run("delete", "namespace", elsewhere, "--wait=false")
