"""The schema of the operator's values: every key is described, every other key and wrong value is refused by name."""

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

CHART = find("operator")
VALUES: dict[str, Any] = yaml.safe_load((CHART.path / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART.path / "values.schema.json").read_text())

NAMED = {"clusters", "bridges"}
"""Maps of names to something of a given shape."""

FREE = NAMED | {
    *("commonLabels", "podAnnotations", "serviceAccount.annotations", "nodeSelector", "affinity"),
    *("podSecurityContext", "containerSecurityContext"),
    *("monitoring.podMonitor.labels", "monitoring.rules.labels", "monitoring.dashboards.labels"),
}
"""Maps whose keys are the user's."""

Path = tuple[str, ...]


def walk(values: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every key of the values with what stands there, those of lists excepted."""
    for key, value in values.items():
        yield (*path, key), value
        if isinstance(value, dict) and ".".join((*path, key)) not in FREE:
            yield from walk(value, (*path, key))


def changed(path: Path, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    parent = values
    for key in path[:-1]:
        parent = parent.setdefault(key, {})
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
CLUSTER = {"bootstrapServers": "kafka:9093", "username": "lagscaler", "existingSecret": "kafka"}
BRIDGE = {"url": "http://shop-web.shop.svc/bridge/api", "existingSecret": "tokens"}


def test_the_charts_own_values_are_accepted() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert refused(VALUES) == set()
    assert refused(changed(("clusters",), {"main": CLUSTER, "old-1": {"bootstrapServers": "a:1,b:2"}})) == set()
    assert refused(changed(("bridges",), {"main": BRIDGE})) == set()


@pytest.mark.parametrize(
    "path", [(), *(path for path, value in KEYS.items() if isinstance(value, dict) and ".".join(path) not in FREE)]
)
def test_a_key_that_nobody_knows_is_refused(path: Path) -> None:
    assert path in refused(changed((*path, "replicaz"), 1))


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_value_of_another_type_is_refused(path: Path) -> None:
    wrong: Any = 7.5 if isinstance(KEYS[path], str | dict | list | bool) else "7"
    if isinstance(KEYS[path], str) and path[-1] in {"tmpSize", "cpu", "memory", "ephemeral-storage"}:
        wrong = True

    assert path in refused(changed(path, wrong))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.tag", "latest"),
        ("image.digest", "sha256:abc"),
        ("watch.namespaces", ["shop-*"]),
        ("watch.namespaces", ["shop", "shop"]),
        ("clusters.Main", CLUSTER),
        ("clusters.main", {}),
        ("clusters.main", {**CLUSTER, "bootstrapServers": "kafka"}),
        ("clusters.main", {**CLUSTER, "password": "secret"}),
        ("clusters.main", {**CLUSTER, "saslMechanism": "OAUTHBEARER"}),
        ("clusters.main", {**CLUSTER, "ca": {"secretName": "ca"}}),
        ("clusters.main", {**CLUSTER, "certificate": {"privateKey": "user.key"}}),
        ("bridges.main", {"existingSecret": "tokens"}),
        ("bridges.main", {**BRIDGE, "url": "shop-web.shop.svc"}),
        ("bridges.main", {**BRIDGE, "url": "http://me:secret@shop-web.shop.svc"}),
        ("bridges.main", {**BRIDGE, "token": "secret"}),
        ("bridges.main", {**BRIDGE, "pollSeconds": 0}),
        ("networkPolicy.apiServer.ports", []),
        ("networkPolicy.kafka.peers", [{"namespace": "kafka"}]),
        ("requestedBy.trusted", [""]),
        ("monitoring.podMonitor.interval", "soon"),
        ("imagePullSecrets", [{"name": "registry"}]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(path: str, value: object) -> None:
    where = tuple(path.split("."))

    assert any(place[: len(where) - 1] == where[:-1] for place in refused(changed(where, value)))


def test_helm_names_the_key() -> None:
    minimal = CHART.scenario("minimal").values
    assert minimal is not None
    for setting, place in (
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("clusters.main.bootstrapServer=x", "at '/clusters/main': additional properties 'bootstrapServer' not allowed"),
        ("watch.clusterWide=maybe", "at '/watch/clusterWide'"),
    ):
        with pytest.raises(ChartsError, match=place):
            render(CHART, [minimal], settings=[setting])


def test_every_key_is_described() -> None:
    definitions = [(f"{name}.", one["properties"]) for name, one in SCHEMA["definitions"].items() if name in SHAPES]
    assert len(definitions) == len(SHAPES)
    bare = [
        path
        for start, properties in [("", SCHEMA["properties"]), *definitions]
        for path, schema in described(properties, start)
        if not schema.get("description")
    ]

    assert bare == []


SHAPES = {"cluster", "bridge"}


def described(properties: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, schema in properties.items():
        # Quantities and the like are described where they are defined.
        if path != "resources.":
            yield f"{path}{name}", schema
        yield from described(schema.get("properties", {}), f"{path}{name}.")


def test_the_readme_names_every_field_of_a_cluster_and_of_a_bridge() -> None:
    lines = (CHART.path / "values.yaml").read_text().splitlines()
    for name, shape in (("clusters", "cluster"), ("bridges", "bridge")):
        comment = lines[lines.index(f"{name}: {{}}") - 1]
        for field in SCHEMA["definitions"][shape]["properties"]:
            assert f"`{field}" in comment, (name, field)
