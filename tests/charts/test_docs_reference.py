"""The page about the charts says what they render."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from charts.render import documents, find, render
from tests.documents import ROOT, blocks, codes, rows, section

PAGE = ROOT / "docs" / "reference" / "charts.md"
INSTALL = ROOT / "docs" / "howto" / "install.md"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everything that the shop's chart renders with the values of the page on installing it."""
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    file.write_text(next(block.text for block in blocks(INSTALL) if block.directive == "file: shop-values.yaml"))
    return list(documents(render(find("shop"), [file], namespace="shop", release="shop")))


def of_kind(release: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {resource["metadata"]["name"]: resource for resource in release if resource["kind"] == kind}


@cache
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((find("shop").path / "values.yaml").read_text())
    return found


def general(name: str) -> str:
    """Return a name with its service left open."""
    return re.sub(rf"-({'|'.join(values()['services'])})$", "-<service>", name)


def test_every_deployment_with_its_kafka_user(release: list[dict[str, Any]]) -> None:
    stated = {codes(cells[0])[0]: codes(cells[3])[0] for cells in rows(section(PAGE, "Workloads"), "Deployment")}
    found = {}
    for name, deployment in of_kind(release, "Deployment").items():
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        environment = {one["name"]: one.get("value", "") for one in container["env"]}
        found[general(name)] = general(environment["KAFKA_SASL_USERNAME"])
    assert found == stated


def test_every_job(release: list[dict[str, Any]]) -> None:
    stated = {name for name in codes(section(PAGE, "Workloads")) if name.endswith("-<revision>")}
    assert {re.sub(r"-\d+$", "-<revision>", name) for name in of_kind(release, "Job")} == stated


def test_init_containers_are_called_as_it_says(release: list[dict[str, Any]]) -> None:
    names = {
        container["name"]
        for deployment in of_kind(release, "Deployment").values()
        for container in deployment["spec"]["template"]["spec"].get("initContainers", [])
    }
    assert names == {"migrations", "preflight"}
    assert names <= set(codes(section(PAGE, "Workloads")))


def test_secrets_are_named_by_values_that_exist() -> None:
    for cells in rows(section(PAGE, "Secrets"), "value"):
        for path in [codes(cells[0])[0], *re.findall(r"\(`([\w.]+)`\)", cells[1])]:
            found = values()
            for key in path.split("."):
                assert key in found, path
                found = found[key]


def test_every_secret_of_a_pod_is_listed(release: list[dict[str, Any]]) -> None:
    named = {"shop-app", "shop-database", "shop-redis", "shop-kafka-ca"}
    users = {general(codes(cells[3])[0]) for cells in rows(section(PAGE, "Workloads"), "Deployment")}
    for name, deployment in of_kind(release, "Deployment").items():
        used = set(re.findall(r"secretName': '([^']+)'", str(deployment)))
        used |= set(re.findall(r"secretKeyRef': {'name': '([^']+)'", str(deployment)))
        assert {general(one) for one in used} <= named | users, name


ROLES = {"shadow workers": "shadow", "the test": "order-test", "web": "web"}
"""Roles that the table of Secrets names."""


def pods(*settings: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the role and the spec of every pod of a shop that has a Secret for everything."""
    file = find("shop").scenario("external").values
    assert file is not None
    for item in documents(render(find("shop"), [file], namespace="shop", release="shop", settings=settings)):
        pod = item if item["kind"] == "Pod" else item["spec"].get("template", {}) if "spec" in item else {}
        if pod:
            yield pod["metadata"]["labels"]["taskbridge.dev/role"], pod["spec"]


def variables(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        yield from container["env"]


def given(*settings: str) -> set[tuple[str, str, str, str]]:
    """Return what the pods of which role get: a Secret, a key (none: all of them), as what, the role."""
    found = set()
    for role, spec in pods(*settings):
        for one in variables(spec):
            if secret := one.get("valueFrom", {}).get("secretKeyRef"):
                found.add((secret["name"], secret["key"], "variable", role))
        for volume in spec["volumes"]:
            if secret := volume.get("secret"):
                keys = [one["key"] for one in secret.get("items", [])] or [""]
                found |= {(secret["secretName"], key, "file", role) for key in keys}
    return found


def test_who_gets_which_secret_and_as_what() -> None:
    roles = {role for role, _ in pods()}
    with_kafka = {role for role, spec in pods() if any(one["name"] == "KAFKA_SASL_USERNAME" for one in variables(spec))}
    names = {"email": "shop-mail", "kafka.ca": "shop-kafka-ca", "broker": "shop-broker"}
    names |= {"app": "shop-app", "database": "shop-database", "shadowWorker": "shop-copy", "web": "shop-bridge-tokens"}
    stated, checked = set(), {"shop-copy"}
    for value, keys, who, form in rows(section(PAGE, "Secrets"), "value"):
        path, _, last = codes(value)[0].rpartition(".")
        if not form:
            continue
        mentioned = {role for words, role in ROLES.items() if words in who}
        if "Kafka" in who:
            mentioned = with_kafka
        elif who.startswith("all but"):
            mentioned = roles - mentioned
        key = codes(keys)[0] if codes(keys) else ""
        secret = "each its own" if last == "users" else names[path]
        checked.add(secret)
        stated |= {(secret, key, form, role) for role in mentioned}

    copied = {one for one in given("shadowWorker.databaseSecret=shop-copy") if one[0] == "shop-copy"}
    found = {(name if name in checked else "each its own", *rest) for name, *rest in given() | copied}
    assert found == stated


def test_who_may_be_reached_at_which_port(release: list[dict[str, Any]]) -> None:
    reached: dict[int, set[str]] = {}
    for policy in of_kind(release, "NetworkPolicy").values():
        component = policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "")
        for rule in policy["spec"].get("ingress", []):
            for port in rule["ports"]:
                reached.setdefault(port["port"], set()).add(general(component).removesuffix("-<service>"))
    assert reached == {8000: {"web"}, 8080: {"web", "worker", "shadow", "relay"}}
    stated = {cells[2]: cells[1] for cells in rows(section(PAGE, "Who may talk to whom"), "from")}
    assert stated["8000"] == "web"
    assert stated["8080"] == "web, Kafka workers, shadow workers, relay"


def test_no_workload_has_a_token(release: list[dict[str, Any]]) -> None:
    for kind in ("Deployment", "Job"):
        for resource in of_kind(release, kind).values():
            assert resource["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
