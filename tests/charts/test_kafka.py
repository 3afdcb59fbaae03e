"""The chart of Kafka: what Helm, its own suites, kube-score and Strimzi's definitions say of it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from charts.check import check
from charts.definitions import Definitions
from charts.errors import ChartsError
from charts.render import documents, find, render
from crds.prometheus import make_prometheus
from crds.strimzi import make_strimzi
from taskbridge.cli.strimzi import resource_name

CHART = find("kafka")
SCENARIOS = [scenario.name for scenario in CHART.scenarios]
ROOT = Path(__file__).resolve().parents[2]

STRIMZI_KINDS = {"Kafka", "KafkaConnect", "KafkaConnector", "KafkaNodePool", "KafkaTopic", "KafkaUser"}


def rendered(scenario: str, *settings: str) -> list[dict[str, Any]]:
    values = CHART.scenario(scenario).values
    assert values is not None
    return list(documents(render(CHART, [values], namespace="kafka", settings=settings)))


def test_every_tool_is_content() -> None:
    findings = list(check(CHART))

    assert [finding for finding in findings if finding.trouble] == []
    assert {finding.check for finding in findings} == {"lint", "kube-score", "unittest"}


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return Definitions([make_strimzi(print), make_prometheus(print)])


def test_strimzi_knows_every_field(definitions: Definitions) -> None:
    kinds = set()
    for scenario in SCENARIOS:
        manifests = rendered(scenario)
        kinds |= {item["kind"] for item in manifests}
        assert definitions.troubles(manifests) == [], scenario

    assert kinds > STRIMZI_KINDS, "every resource of the chart is in some scenario"


def test_a_field_that_strimzi_does_not_know_is_found(definitions: Definitions) -> None:
    kafka = next(item for item in rendered("production") if item["kind"] == "Kafka")
    kafka["spec"]["kafka"]["zookeeper"] = {}
    kafka["spec"]["kafka"]["listeners"][0]["type"] = "inner"

    troubles = definitions.troubles([kafka, {**kafka, "apiVersion": "kafka.strimzi.io/v1alpha1"}])

    assert any("'zookeeper' was unexpected" in trouble for trouble in troubles)
    assert any("spec.kafka.listeners[0].type: 'inner' is not one of" in trouble for trouble in troubles)
    assert "Kafka kafka: there is no Kafka in kafka.strimzi.io/v1alpha1" in troubles


def test_topics_are_those_of_the_shop() -> None:
    """Code and cluster cannot drift apart: what the project's command prints is what the chart renders."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("apps", "bridge")),
        "DJANGO_SETTINGS_MODULE": "shop.config.settings",
        "DJANGO_DEBUG": "1",
        "DATABASE_URL": "postgresql://nobody:nothing@localhost:1/shop",
        "REDIS_URL": "redis://localhost:1",
        "KAFKA_BOOTSTRAP_SERVERS": "localhost:1",
    }
    command = [sys.executable, "-m", "taskbridge.cli", "--app", "shop.config.celery", "topics"]
    printed = subprocess.run(
        [*command, "--format", "strimzi", "--cluster", "kafka"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    of_code = {item["metadata"]["name"]: item for item in documents(printed.stdout)}
    of_chart = {
        item["metadata"]["name"]: item
        for item in documents(render(CHART, namespace="kafka"))
        if item["kind"] == "KafkaTopic"
    }

    assert set(of_chart) == set(of_code)
    for name, topic in of_code.items():
        assert of_chart[name]["spec"] == topic["spec"], name
        assert of_chart[name]["metadata"]["labels"]["strimzi.io/cluster"] == "kafka"


@pytest.mark.parametrize("service", ["plain", "under_score", "dash-", "dash_", "a-_b", "x" * 63])
def test_topic_resources_are_named_as_by_the_command(service: str) -> None:
    settings = [f"topics.services[0].name={service}", "topics.services[0].partitions=1"]
    names = {
        item["spec"]["topicName"]: item["metadata"]["name"]
        for item in documents(render(CHART, settings=settings))
        if item["kind"] == "KafkaTopic"
    }

    for topic in (f"shop.{service}", f"shop.{service}.dlq", "shop.observations"):
        assert names[topic] == resource_name(topic)


def test_rights_are_literal_and_nobody_may_do_everything() -> None:
    rules = [
        rule
        for item in rendered("outbox")
        if item["kind"] == "KafkaUser"
        for rule in item["spec"]["authorization"]["acls"]
    ]

    assert rules
    for rule in rules:
        assert rule["resource"].get("name") != "*"
        assert rule["resource"].get("patternType", "literal") == "literal"
        assert "All" not in rule["operations"]
        if rule["resource"]["type"] == "cluster":
            assert rule["operations"] == ["DescribeConfigs"]


def test_only_the_command_line_creates_topics_and_reads_evidence() -> None:
    creators, readers = set(), set()
    for item in rendered("production"):
        if item["kind"] != "KafkaUser":
            continue
        for rule in item["spec"]["authorization"]["acls"]:
            if "Create" in rule["operations"]:
                creators.add(item["metadata"]["name"])
            if rule["resource"].get("name") == "shop.observations" and "Read" in rule["operations"]:
                readers.add(item["metadata"]["name"])

    assert creators == {"shop-cli"}
    assert readers == {"shop-cli"}


def test_no_secret_and_nothing_that_changes_by_itself_is_rendered() -> None:
    for scenario in SCENARIOS:
        manifests = rendered(scenario)
        assert not [item for item in manifests if item["kind"] == "Secret"]
        assert ":latest" not in json.dumps(manifests)
    sources = [file for file in CHART.path.rglob("*") if file.is_file()]
    assert not [file for file in sources if "v1beta2" in file.read_text()]


# The schema.


VALUES = yaml.safe_load((CHART.path / "values.yaml").read_text())
SCHEMA = json.loads((CHART.path / "values.schema.json").read_text())


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value, containers among them."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def replaced(path: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(VALUES)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


FREE = ("containerSecurityContext", "podSecurityContext")
"""Values that are handed on to Kubernetes as they are."""

SELECTORS = {"namespaceSelector", "podSelector"}
"""Parts of a NetworkPolicy's peers that are handed on, too."""


def is_free(path: tuple[str | int, ...]) -> bool:
    return len(path) > 1 and (path[0] in FREE or "artifacts" in path or not SELECTORS.isdisjoint(path[:-1]))


def test_the_charts_own_values_are_valid() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert list(Draft7Validator(SCHEMA).iter_errors(VALUES)) == []


@pytest.mark.parametrize("path", [path for path in places(VALUES) if not is_free(path)], ids=str)
def test_a_wrong_type_is_refused(path: tuple[str | int, ...]) -> None:
    # Nothing takes a list in a list.
    errors = list(Draft7Validator(SCHEMA).iter_errors(replaced(path, [[]])))

    assert errors
    assert all(tuple(error.absolute_path)[: len(path)] == path for error in errors)


OPEN = {
    ("profiles",),
    ("kafka", "config"),
    ("kafka", "annotations"),
    ("external", "existingSecrets"),
    ("metrics", "podMonitor", "labels"),
    ("metrics", "rules", "labels"),
    ("commonLabels",),
}
"""Maps whose keys are the user's own."""


def maps() -> list[tuple[str | int, ...]]:
    found = []
    for path in [(), *places(VALUES)]:
        value = VALUES
        for key in path:
            value = value[key]
        handed_on = path and (path[0] in FREE or path[-1] in SELECTORS or is_free(path))
        if isinstance(value, dict) and path not in OPEN and not handed_on:
            found.append(path)
    return found


@pytest.mark.parametrize("path", maps(), ids=str)
def test_an_unknown_key_is_refused(path: tuple[str | int, ...]) -> None:
    errors = list(Draft7Validator(SCHEMA).iter_errors(replaced((*path, "surprise"), "value")))

    assert any("surprise" in error.message for error in errors)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("mode=both", "mode"),
        ("listener.prot=9093", "prot"),
        ("topics.retentionMs=fourteen days", "retentionMs"),
        ("topics.prefix=Shop", "prefix"),
        ("external.bootstrapServers=kafka", "bootstrapServers"),
        ("kafka.config.min\\.insync\\.replicas=1", "min.insync.replicas"),
        ("profiles.production.brokers.heap=half", "heap"),
    ],
)
def test_helm_names_the_value_that_is_wrong(setting: str, named: str) -> None:
    with pytest.raises(ChartsError, match=rf"(?s)values don't meet the specifications.*{named}"):
        render(CHART, settings=[setting])


def test_without_strimzi_helm_says_how_to_install_it() -> None:
    with pytest.raises(
        ChartsError, match=r"(?s)not known to this cluster.*helm install strimzi.*watchNamespaces=.*mode=external"
    ):
        render(CHART, api_versions=[])
