"""The schema of the shop's values: every key is described, every other key and every wrong value is refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from charts.errors import ChartsError
from charts.render import find, render

CHART = find("shop")
VALUES: dict[str, Any] = yaml.safe_load((CHART.path / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART.path / "values.schema.json").read_text())

FREE = {
    *("commonLabels", "app.env", "kafka.users", "services", "nodeSelector", "affinity", "tolerations"),
    *("podSecurityContext", "containerSecurityContext", "web.service.annotations", "web.ingress.annotations"),
    *("serviceAccounts.annotations", "postgresql.nodeSelector", "redis.nodeSelector"),
    *("monitoring.podMonitors.labels", "monitoring.rules.labels", "monitoring.dashboards.labels"),
}
"""Maps whose keys are the user's, beside `podAnnotations`."""

Path = tuple[str, ...]


def walk(values: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every key of the values with what stands there, those of lists excepted."""
    for key, value in values.items():
        yield (*path, key), value
        if isinstance(value, dict) and ".".join((*path, key)) not in FREE - {"services"}:
            yield from walk(value, (*path, key))


def changed(path: Path, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    parent = values
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return values


def refused(values: dict[str, Any]) -> set[Path]:
    """Return the paths at which the schema refuses something."""
    places: set[Path] = set()
    errors = list(Draft7Validator(SCHEMA).iter_errors(values))
    while errors:
        error = errors.pop()
        errors += error.context or []
        places.add(tuple(str(part) for part in error.absolute_path))
    return places


KEYS = dict(walk(VALUES))
MAPS = [path for path, value in KEYS.items() if isinstance(value, dict) and path[-1] != "podAnnotations"]


def test_the_charts_own_values_are_accepted() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert refused(VALUES) == set()


@pytest.mark.parametrize("path", [(), *(path for path in MAPS if ".".join(path) not in FREE)], ids=".".join)
def test_a_key_that_nobody_knows_is_refused(path: Path) -> None:
    assert path in refused(changed((*path, "replicaz"), 1))


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_value_of_another_type_is_refused(path: Path) -> None:
    wrong = 7.5 if isinstance(KEYS[path], str | dict | list | bool) else "7"
    if isinstance(KEYS[path], str) and path[-1] in {"size", "tmpSize", "cpu", "memory", "ephemeral-storage"}:
        wrong = True

    assert path in refused(changed(path, wrong))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.tag", "latest"),
        ("image.repository", "registry.example.com/Shop:1"),
        ("image.digest", "sha256:abc"),
        ("kafka.bootstrapServers", "kafka"),
        ("kafka.securityProtocol", "sasl_ssl"),
        ("kafka.saslMechanism", "OAUTHBEARER"),
        ("kafka.topicPrefix", "Shop"),
        ("email.url", "smtp://me:secret@mail"),
        ("email.url", "mail.example.com"),
        ("web.replicas", -1),
        ("web.service.port", 70000),
        ("web.hpa.targetCpuPercent", 0),
        ("relay.replicas", 0),
        ("networkPolicy.dns.ports", []),
        ("networkPolicy.kafka.peers", [{"namespace": "kafka"}]),
        ("topologySpread.whenUnsatisfiable", "Maybe"),
        ("services.orders", {}),
        ("services.orders", {"enabled": True, "celeryWorker": {"processes": 2}}),
        ("services.Orders", {"enabled": True}),
        ("tmpSize", "much"),
        ("celeryWorker.logLevel", "debug"),
        ("imagePullSecrets", [{"name": "registry"}]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(path: str, value: object) -> None:
    where = tuple(path.split("."))

    assert any(place[: len(where) - 1] == where[:-1] for place in refused(changed(where, value)))


def test_two_that_scale_the_same_are_refused() -> None:
    values = changed(("kafkaWorker", "autoscaling", "enabled"), True)
    assert refused(values) == set()
    values["kafkaWorker"]["hpa"]["enabled"] = True

    assert ("kafkaWorker", "hpa", "enabled") in refused(values)


def test_helm_names_the_key() -> None:
    external = CHART.scenario("external").values
    assert external is not None
    for setting, place in (
        ("web.replica=2", "at '/web': additional properties 'replica' not allowed"),
        ("kafkaWorker.replicas=two", "at '/kafkaWorker/replicas'"),
        ("services.orders.enabled=maybe", "at '/services/orders/enabled'"),
    ):
        with pytest.raises(ChartsError, match=place):
            render(CHART, [external], settings=[setting])


def test_every_key_is_described() -> None:
    bare = [path for path, schema in described(SCHEMA["properties"]) if not description(schema)]

    assert bare == []


def described(properties: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in properties.items():
        yield f"{path}{name}", schema
        yield from described(schema.get("properties", {}), f"{path}{name}.")


def description(schema: dict[str, Any]) -> str:
    reference = schema.get("$ref", "#/definitions/").removeprefix("#/definitions/")
    return str(schema.get("description") or SCHEMA["definitions"].get(reference, {}).get("description", ""))
