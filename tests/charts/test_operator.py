"""The chart of the operator: what Helm, its own suites, kube-score and the code of the operator say of it."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from charts.check import check
from charts.definitions import Definitions
from charts.errors import ChartsError
from charts.own import write_definitions
from charts.render import documents, find, render
from crds.prometheus import make_prometheus
from lagscaler.kubernetes.kinds import OWN, SCALED_OBJECTS, watched
from lagscaler.resources.consumer import Mode, parse_consumer
from lagscaler.resources.cutover import REQUESTED_BY, parse_cutover
from lagscaler.settings import Settings, parse_settings
from taskbridge import __version__
from tests.documents import ROOT
from tests.unit.repo.test_commands import check as check_command

CHART = find("operator")
SCENARIOS = [scenario.name for scenario in CHART.scenarios]

Manifest = dict[str, Any]


@cache
def rendered(scenario: str, *settings: str) -> tuple[Manifest, ...]:
    values = CHART.scenario(scenario).values
    assert values is not None
    return tuple(documents(render(CHART, [values], namespace="shop", release="lagscaler", settings=settings)))


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    return {item["metadata"]["name"]: item for item in manifests if item["kind"] == kind}


def pod(scenario: str) -> Manifest:
    [deployment] = of_kind(rendered(scenario), "Deployment").values()
    return deployment["spec"]["template"]["spec"]


def settings(scenario: str) -> Settings:
    return parse_settings(of_kind(rendered(scenario), "ConfigMap")["lagscaler"]["data"]["config.yaml"])


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    return Definitions([write_definitions(tmp_path_factory.mktemp("definitions")), make_prometheus(print)])


def test_every_tool_is_content() -> None:
    findings = list(check(CHART))

    assert [finding for finding in findings if finding.trouble] == []
    assert {finding.check for finding in findings} == {"lint", "kube-score", "unittest"}


def test_prometheus_knows_every_field(definitions: Definitions) -> None:
    manifests = rendered("full")

    assert of_kind(manifests, "PodMonitor")
    assert of_kind(manifests, "PrometheusRule")
    assert definitions.troubles(list(manifests)) == []


# The pod


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_pod_is_restricted_and_writes_nowhere(scenario: str) -> None:
    spec = pod(scenario)
    [container] = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp"}  # noqa: S108


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_there_is_one_pod_and_never_two(scenario: str) -> None:
    [deployment] = of_kind(rendered(scenario), "Deployment").values()

    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert not of_kind(rendered(scenario), "PodDisruptionBudget"), (
        "one that cannot be evicted keeps a node from a drain"
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_image_is_exact_and_the_resources_are_stated(scenario: str) -> None:
    [container] = pod(scenario)["containers"]

    assert re.search(r":(?!latest$)[0-9][A-Za-z0-9._-]*$|@sha256:[0-9a-f]{64}$", container["image"])
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_the_command_exists() -> None:
    [container] = pod("full")["containers"]

    check_command(container["command"], whole=True)


def test_versions_are_those_of_the_project() -> None:
    assert yaml.safe_load((CHART.path / "Chart.yaml").read_text())["appVersion"] == __version__


# Settings


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_operator_understands_its_settings(scenario: str) -> None:
    found = settings(scenario)
    values = yaml.safe_load(CHART.scenario(scenario).values.read_text())  # type: ignore[union-attr]

    assert set(found.clusters) == set(values["clusters"])
    assert set(found.bridges) == set(values.get("bridges", {}))
    assert found.scaled_objects == values.get("watch", {}).get("scaledObjects", False)


def test_namespaces_are_those_of_the_roles() -> None:
    for scenario in SCENARIOS:
        roles = {item["metadata"]["namespace"] for item in rendered(scenario) if item["kind"] == "Role"}
        assert set(settings(scenario).namespaces) == roles, scenario
    assert settings("cluster-wide").namespaces == ()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_only_the_releases_namespace_may_use_what_says_of_no_other(scenario: str) -> None:
    values = yaml.safe_load(CHART.scenario(scenario).values.read_text())  # type: ignore[union-attr]
    found = settings(scenario)

    for kind, there in (("clusters", found.clusters), ("bridges", found.bridges)):
        for name, given in values.get(kind, {}).items():
            assert set(there[name].namespaces) == set(given.get("namespaces", ["shop"])), (kind, name)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_file_of_the_settings_is_mounted(scenario: str) -> None:
    spec = pod(scenario)
    [container] = spec["containers"]
    [projected] = [volume["projected"] for volume in spec["volumes"] if "projected" in volume]
    [folder] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config"]
    mounted = {
        PurePosixPath(folder, item["path"])
        for source in projected["sources"]
        if "secret" in source
        for item in source["secret"]["items"]
    }
    found = settings(scenario)
    wanted = {
        PurePosixPath(path)
        for place in (*found.clusters.values(), *found.bridges.values())
        for name in ("password_file", "ca_file", "certificate_file", "key_file", "token_file")
        if (path := getattr(place, name, None)) is not None
    }

    assert wanted == mounted
    assert f"--config={folder}/config.yaml" in container["command"]


def test_no_secret_is_in_a_variable_or_in_the_configuration() -> None:
    [container] = pod("full")["containers"]

    assert "env" not in container
    assert not of_kind(rendered("full"), "Secret")
    with pytest.raises(ChartsError, match="additional properties 'password' not allowed"):
        rendered("kafka-sasl", "clusters.main.password=x")


# Rights


def rules(scenario: str) -> list[Manifest]:
    found = [item["rules"] for item in rendered(scenario) if item["kind"] in {"Role", "ClusterRole"}]
    assert all(one == found[0] for one in found)
    return list(found[0])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_watched_may_be_watched_and_nothing_else_be_changed(scenario: str) -> None:
    scaled_objects = settings(scenario).scaled_objects
    allowed = {
        (group, resource, verb)
        for rule in rules(scenario)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    for kind in watched(scaled_objects=scaled_objects):
        assert allowed >= {(kind.group, kind.plural, "list"), (kind.group, kind.plural, "watch")}
    assert any(group == SCALED_OBJECTS.group for group, _, _ in allowed) == scaled_objects
    changing = {(group, resource, verb) for group, resource, verb in allowed if verb not in {"get", "list", "watch"}}
    assert changing == {
        *((kind.group, f"{kind.plural}/status", "patch") for kind in OWN),
        ("apps", "deployments/scale", "patch"),
        ("", "events", "create"),
        ("", "events", "patch"),
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nobody_may_read_secrets_or_do_everything(scenario: str) -> None:
    for rule in rules(scenario):
        assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not {"secrets", "configmaps", "pods"} & set(rule["resources"])


@pytest.mark.parametrize(
    ("name", "scenario"), [("operator-rights", "kafka-sasl"), ("operator-rights-cluster-wide", "cluster-wide")]
)
def test_the_rights_are_those_of_the_golden_file(name: str, scenario: str) -> None:
    """`kubectl auth can-i --list` as the ServiceAccount, without what everybody may."""
    lines = (ROOT / "tests" / "cluster" / "golden" / f"{name}.txt").read_text().splitlines()
    golden = {tuple(re.split(r"\s{2,}", line)) for line in lines if line and not line.startswith("#")}
    own = {
        (f"{resource}.{group}".rstrip(".") if "/" not in resource else dotted(resource, group), " ".join(rule["verbs"]))
        for rule in rules(scenario)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert golden == own


def dotted(resource: str, group: str) -> str:
    """Return a subresource as kubectl writes it: the group between both."""
    name, _, sub = resource.partition("/")
    return f"{name}.{group}/{sub}"


# The definitions, and resources that fit them


@pytest.mark.parametrize("scenario", sorted({*SCENARIOS} - {"cluster-wide"}))
def test_definitions_outlive_the_release(scenario: str) -> None:
    found = of_kind(rendered(scenario), "CustomResourceDefinition")

    assert set(found) == {"kafkaconsumers.taskbridge.dev", "cutovers.taskbridge.dev"}
    for item in found.values():
        assert item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_nothing_has_a_finalizer() -> None:
    for scenario in SCENARIOS:
        assert not [item for item in rendered(scenario) if "finalizers" in item["metadata"]]


EXAMPLES = sorted(
    (path, number)
    for path in (ROOT / "k8s" / "operator").glob("*.yaml")
    for number, item in enumerate(yaml.safe_load_all(path.read_text()))
    if item and item["apiVersion"].startswith("taskbridge.dev/")
)


@pytest.mark.parametrize(("path", "number"), EXAMPLES, ids=lambda value: getattr(value, "name", str(value)))
def test_an_example_is_what_it_looks_like(path: Path, number: int, definitions: Definitions) -> None:
    item = list(yaml.safe_load_all(path.read_text()))[number]

    assert definitions.troubles([item]) == []
    parse = {"KafkaConsumer": parse_consumer, "Cutover": parse_cutover}[item["kind"]]
    parse(item)


def test_there_are_examples_of_both_kinds() -> None:
    kinds = {list(yaml.safe_load_all(path.read_text()))[number]["kind"] for path, number in EXAMPLES}
    assert kinds == {"KafkaConsumer", "Cutover"}


@cache
def shop(*settings: str) -> tuple[Manifest, ...]:
    chart = find("shop")
    values = chart.scenario("autoscaled").values
    assert values is not None
    return tuple(documents(render(chart, [values], namespace="shop", settings=settings)))


def test_the_shop_asks_for_what_the_operator_knows(definitions: Definitions) -> None:
    consumers, cutovers = of_kind(shop(), "KafkaConsumer"), of_kind(shop(), "Cutover")
    deployments = of_kind(shop(), "Deployment")

    assert definitions.troubles([*consumers.values(), *cutovers.values()]) == []
    assert set(consumers) < set(cutovers)
    for name, item in consumers.items():
        consumer = parse_consumer(item)
        assert consumer.target in deployments, name
        assert "replicas" not in deployments[consumer.target]["spec"], "whoever scales owns the number"
        assert consumer.mode is Mode.AUTO
        assert consumer.policy.latency == 30
        command = deployments[consumer.target]["spec"]["template"]["spec"]["containers"][0]["command"]
        assert f"--service={consumer.service}" in command
    for item in cutovers.values():
        assert parse_cutover(item).wish.document() == parse_cutover({**item, "spec": {"service": "x"}}).wish.document()


def test_the_shop_takes_every_field_that_it_does_not_set_itself() -> None:
    [definition] = [item for item in rendered("minimal") if item["metadata"]["name"] == "kafkaconsumers.taskbridge.dev"]
    fields = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema = yaml.safe_load((find("shop").path / "values.schema.json").read_text())["definitions"]["kafkaWorker"]
    given = schema["properties"]["autoscaling"]["properties"]["spec"]["properties"]

    own = {"targetRef", "cluster", "group", "topics", "offsetReset", "readCommitted", "service", "bridge"}
    assert set(given) == set(fields) - own


def test_the_operators_own_kafka_user_only_describes() -> None:
    users = of_kind(tuple(documents(render(find("kafka"), settings=["users.lagscaler.enabled=true"]))), "KafkaUser")
    found = users["shop-lagscaler"]["spec"]["authorization"]["acls"]

    assert {operation for rule in found for operation in rule["operations"]} == {"Describe"}
    groups = {rule["resource"]["name"] for rule in found if rule["resource"]["type"] == "group"}
    topics = {rule["resource"]["name"] for rule in found if rule["resource"]["type"] == "topic"}
    for item in of_kind(shop(), "KafkaConsumer").values():
        consumer = parse_consumer(item)
        assert consumer.group in groups
        assert set(consumer.topics) <= topics


def test_who_asked_is_told_by_the_annotation_that_the_operator_reads() -> None:
    [policy] = of_kind(rendered("full"), "ValidatingAdmissionPolicy").values()
    [binding] = of_kind(rendered("full"), "ValidatingAdmissionPolicyBinding").values()

    written = yaml.safe_dump(policy["spec"])
    assert set(re.findall(r"[a-z.-]+/requested-by", written)) == {REQUESTED_BY}
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert not of_kind(rendered("minimal"), "ValidatingAdmissionPolicy")


def test_every_command_of_the_notes_is_one() -> None:
    text = (CHART.path / "templates" / "NOTES.txt").read_text()
    commands = [shlex.split(line) for line in re.findall(r"^  (kubectl .+)$", text, re.MULTILINE)]
    assert {words[1] for words in commands} == {"rollout", "logs", "get", "describe", "auth", "delete"}
