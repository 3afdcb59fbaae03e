"""The schema of the operator's values: every key is described, every other key and wrong value is refused by name."""

from __future__ import annotations

import pytest

from charts.errors import ChartsError
from charts.render import render
from tests.charts.schema import Guarded, Path, described

NAMED = {"clusters", "bridges"}
"""Maps of names to something of a given shape."""

FREE = NAMED | {
    *("commonLabels", "podAnnotations", "serviceAccount.annotations", "nodeSelector", "affinity"),
    *("podSecurityContext", "containerSecurityContext"),
    *("monitoring.podMonitor.labels", "monitoring.rules.labels", "monitoring.dashboards.labels"),
}
"""Maps whose keys are the user's."""

OPERATOR = Guarded("operator", FREE)
KEYS = OPERATOR.keys
CLUSTER = {"bootstrapServers": "kafka:9093", "username": "lagscaler", "existingSecret": "kafka"}
BRIDGE = {"url": "http://shop-web.shop.svc/bridge/api", "existingSecret": "tokens"}


def test_the_charts_own_values_are_accepted() -> None:
    assert OPERATOR.refused(OPERATOR.values) == set()
    two = {"main": CLUSTER, "old-1": {"bootstrapServers": "a:1,b:2"}}
    assert OPERATOR.refused(OPERATOR.changed(("clusters",), two)) == set()
    assert OPERATOR.refused(OPERATOR.changed(("bridges",), {"main": BRIDGE})) == set()
    for given in (["shop", "fraud"], ["*"], []):
        assert OPERATOR.refused(OPERATOR.changed(("bridges",), {"main": {**BRIDGE, "namespaces": given}})) == set()


@pytest.mark.parametrize(
    "path", [(), *(path for path, value in KEYS.items() if isinstance(value, dict) and ".".join(path) not in FREE)]
)
def test_a_key_that_nobody_knows_is_refused(path: Path) -> None:
    assert path in OPERATOR.refused(OPERATOR.changed((*path, "replicaz"), 1))


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_value_of_another_type_is_refused(path: Path) -> None:
    assert path in OPERATOR.refused(OPERATOR.changed(path, OPERATOR.of_another_type(path)))


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
        ("bridges.main", {**BRIDGE, "namespaces": "shop"}),
        ("bridges.main", {**BRIDGE, "namespaces": ["shop-*"]}),
        ("clusters.main", {**CLUSTER, "namespaces": ["shop", "shop"]}),
        ("networkPolicy.apiServer.ports", []),
        ("networkPolicy.kafka.peers", [{"namespace": "kafka"}]),
        ("requestedBy.trusted", [""]),
        ("monitoring.podMonitor.interval", "soon"),
        ("imagePullSecrets", [{"name": "registry"}]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(path: str, value: object) -> None:
    assert OPERATOR.refuses(tuple(path.split(".")), value)


def test_helm_names_the_key() -> None:
    minimal = OPERATOR.chart.scenario("minimal").values
    assert minimal is not None
    for setting, place in (
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("clusters.main.bootstrapServer=x", "at '/clusters/main': additional properties 'bootstrapServer' not allowed"),
        ("watch.clusterWide=maybe", "at '/watch/clusterWide'"),
    ):
        with pytest.raises(ChartsError, match=place):
            render(OPERATOR.chart, [minimal], settings=[setting])


def test_every_key_is_described() -> None:
    definitions = OPERATOR.schema["definitions"]
    shapes = [(f"{name}.", definitions[name]["properties"]) for name in ("cluster", "bridge")]
    bare = [
        path
        for start, properties in [("", OPERATOR.schema["properties"]), *shapes]
        for path, schema in described(properties, start)
        # Quantities and the like are described where they are defined.
        if not path.startswith("resources.") and not schema.get("description")
    ]

    assert bare == []


def test_the_readme_names_every_field_of_a_cluster_and_of_a_bridge() -> None:
    lines = (OPERATOR.chart.path / "values.yaml").read_text().splitlines()
    for name, shape in (("clusters", "cluster"), ("bridges", "bridge")):
        comment = lines[lines.index(f"{name}: {{}}") - 1]
        for field in OPERATOR.schema["definitions"][shape]["properties"]:
            assert f"`{field}" in comment, (name, field)
