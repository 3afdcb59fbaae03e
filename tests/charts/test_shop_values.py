"""The schema of the shop's values: every key is described, every other key and every wrong value is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from charts.errors import ChartsError
from charts.render import render
from tests.charts.schema import Guarded, Path, described

FREE = {
    *("commonLabels", "app.env", "kafka.users", "services", "nodeSelector", "affinity", "tolerations"),
    *("podSecurityContext", "containerSecurityContext", "web.service.annotations", "web.ingress.annotations"),
    *("serviceAccounts.annotations", "postgresql.nodeSelector", "redis.nodeSelector"),
    *("monitoring.podMonitors.labels", "monitoring.rules.labels", "monitoring.dashboards.labels"),
}
"""Maps whose keys are the user's, beside `podAnnotations`."""

SHOP = Guarded("shop", FREE - {"services"})
KEYS = SHOP.keys
MAPS = [path for path, value in KEYS.items() if isinstance(value, dict) and path[-1] != "podAnnotations"]


def test_the_charts_own_values_are_accepted() -> None:
    assert SHOP.refused(SHOP.values) == set()


@pytest.mark.parametrize("path", [(), *(path for path in MAPS if ".".join(path) not in FREE)], ids=".".join)
def test_a_key_that_nobody_knows_is_refused(path: Path) -> None:
    assert path in SHOP.refused(SHOP.changed((*path, "replicaz"), 1))


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_value_of_another_type_is_refused(path: Path) -> None:
    assert path in SHOP.refused(SHOP.changed(path, SHOP.of_another_type(path)))


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
        ("networkPolicy.mail.port", 70000),
        ("networkPolicy.postgresql.clients", [{"pod": "connect"}]),
        ("beat.persistence.size", "little"),
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
    assert SHOP.refuses(tuple(path.split(".")), value)


def test_two_that_scale_the_same_are_refused() -> None:
    values = SHOP.changed(("kafkaWorker", "autoscaling", "enabled"), True)
    assert SHOP.refused(values) == set()
    values["kafkaWorker"]["hpa"]["enabled"] = True

    assert ("kafkaWorker", "hpa", "enabled") in SHOP.refused(values)


def test_helm_names_the_key() -> None:
    external = SHOP.chart.scenario("external").values
    assert external is not None
    for setting, place in (
        ("web.replica=2", "at '/web': additional properties 'replica' not allowed"),
        ("kafkaWorker.replicas=two", "at '/kafkaWorker/replicas'"),
        ("services.orders.enabled=maybe", "at '/services/orders/enabled'"),
    ):
        with pytest.raises(ChartsError, match=place):
            render(SHOP.chart, [external], settings=[setting])


def test_every_key_is_described() -> None:
    bare = [path for path, schema in described(SHOP.schema["properties"]) if not description(schema)]

    assert bare == []


def description(schema: dict[str, Any]) -> str:
    reference = schema.get("$ref", "#/definitions/").removeprefix("#/definitions/")
    return str(schema.get("description") or SHOP.schema["definitions"].get(reference, {}).get("description", ""))
