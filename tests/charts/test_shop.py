"""The chart of the shop: what Helm, its own suites, kube-score and the code of the shop say of it."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.check import check
from charts.definitions import Definitions
from charts.errors import ChartsError
from charts.render import documents, find, render
from crds.prometheus import make_prometheus
from taskbridge import __version__
from tests.documents import ROOT, blocks
from tests.unit.repo.test_commands import check as check_command

CHART = find("shop")
SCENARIOS = [scenario.name for scenario in CHART.scenarios]
VALUES: dict[str, Any] = yaml.safe_load((CHART.path / "values.yaml").read_text())

INSTALL = {
    block.directive.removeprefix("file: "): block.text
    for block in blocks(ROOT / "docs/howto/install.md")
    if block.directive in {"file: shop-values.yaml", "file: try-shop.yaml"}
}
"""Values of the page on installing it, by the names of their files."""

Manifest = dict[str, Any]


@cache
def _rendered(scenario: str, settings: tuple[str, ...]) -> tuple[Manifest, ...]:
    values = CHART.scenario(scenario).values
    assert values is not None
    return tuple(documents(render(CHART, [values], namespace="shop", settings=settings)))


def rendered(scenario: str, *settings: str) -> tuple[Manifest, ...]:
    return _rendered(scenario, settings)


def installed(name: str, folder: Path) -> tuple[Manifest, ...]:
    """Return what the page on installing it renders with one of its files of values."""
    file = folder / name
    file.write_text(INSTALL[name])
    return tuple(documents(render(CHART, [file], namespace="shop")))


def pods(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield each kind of pod: whose it is, its metadata, its spec."""
    for item in manifests:
        name = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield name, item["metadata"], item["spec"]
        elif "template" in item.get("spec", {}):
            yield name, item["spec"]["template"]["metadata"], item["spec"]["template"]["spec"]


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    return {item["metadata"]["name"]: item for item in manifests if item["kind"] == kind}


def selects(selector: Manifest, labels: Manifest) -> bool:
    """Tell whether a label selector, as the chart writes them, selects a pod."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        (labels.get(term["key"]) in term["values"]) == (term["operator"] == "In")
        for term in selector.get("matchExpressions", [])
    )


def test_every_tool_is_content() -> None:
    findings = list(check(CHART))

    assert [finding for finding in findings if finding.trouble] == []
    assert {finding.check for finding in findings} == {"lint", "kube-score", "unittest"}


def test_prometheus_knows_every_field() -> None:
    manifests = rendered("external")

    assert of_kind(manifests, "PodMonitor")
    assert len(of_kind(manifests, "PrometheusRule")) == len([*(CHART.path / "files" / "alerts").glob("*.yaml")])
    assert Definitions([make_prometheus(print)]).troubles(list(manifests)) == []


# Every pod


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_pod_is_restricted(scenario: str) -> None:
    for name, _, spec in pods(rendered(scenario)):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in containers(spec):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name  # noqa: S108


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_container_has_an_exact_image_and_resources(scenario: str) -> None:
    for name, _, spec in pods(rendered(scenario)):
        for container in containers(spec):
            assert re.search(r":(?!latest$)[0-9][A-Za-z0-9._-]*$", container["image"]), name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_workload_has_an_account_of_its_own(scenario: str) -> None:
    manifests = rendered(scenario)
    accounts = of_kind(manifests, "ServiceAccount")

    roles: dict[str, set[str]] = {}
    for _, metadata, spec in pods(manifests):
        roles.setdefault(spec["serviceAccountName"], set()).add(metadata["labels"]["taskbridge.dev/role"])

    assert roles.keys() == accounts.keys()
    assert all(len(used) == 1 for used in roles.values()), roles
    assert not any(account["automountServiceAccountToken"] for account in accounts.values())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_probe_asks_a_server(scenario: str) -> None:
    """A probe that starts Python, or asks a broker, restarts what is well."""
    for name, _, spec in pods(rendered(scenario)):
        if name.split()[1] in {"shop-postgresql", "shop-redis"}:
            continue
        for container in spec["containers"]:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if (probe := container.get(kind)) is None:
                    continue
                if "exec" in probe:
                    assert probe["exec"]["command"][0] in {"sh", "test"}, name
                    assert not re.search("python|celery|taskbridge|redis|kafka", str(probe["exec"])), name
                else:
                    assert probe["httpGet"]["path"] in {"/healthz", "/readyz"}, name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_runs_for_long_can_be_told_to_be_well(scenario: str) -> None:
    for name, _, spec in pods(rendered(scenario)):
        if name.startswith("Deployment") and name != "Deployment shop-cli":
            (container,) = spec["containers"]
            assert {"startupProbe", "livenessProbe"} <= container.keys(), name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_celery_says_of_itself_is_of_this_container(scenario: str) -> None:
    """Its folder outlives the container; and a broker that is away keeps no container from having started."""
    for name, metadata, spec in pods(rendered(scenario)):
        role = metadata["labels"]["taskbridge.dev/role"]
        if role in {"celery", "beat"}:
            (container,) = spec["containers"]
            [state] = [one["value"] for one in container["env"] if one["name"] == "SHOP_WORKER_STATE"]
            assert container["command"][:3] == ["sh", "-c", f'rm -rf {state} && exec "$0" "$@"'], name
            assert container["command"][3] == "celery", name
            # Images of 0.1.0 say only that they are ready.
            files = ["started", "-o", "-e", f"{state}/ready"] if role == "celery" else ["heartbeat"]
            expected = ["test", "-e", f"{state}/{files[0]}", *files[1:]]
            assert container["startupProbe"]["exec"]["command"] == expected, name


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "celery"])
def test_only_workers_of_kafka_wait_for_it(scenario: str) -> None:
    """A relay has Celery's messages to send as well."""
    waiting = {
        metadata["labels"]["taskbridge.dev/role"]
        for _, metadata, spec in pods(rendered(scenario))
        for container in containers(spec)
        if container["name"] == "preflight" and container["command"][0] == "taskbridge"
    }

    assert waiting == {"worker", "shadow"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_labels_select_what_they_are_meant_to(scenario: str) -> None:
    manifests = rendered(scenario)
    everyone = {name: metadata["labels"] for name, metadata, _ in pods(manifests)}
    for item in manifests:
        assert item["metadata"]["labels"].keys() >= {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
            "app.kubernetes.io/version",
            "app.kubernetes.io/part-of",
            "app.kubernetes.io/managed-by",
            "helm.sh/chart",
        }, item["metadata"]["name"]
        selector = item.get("spec", {}).get("selector")
        if selector is None or item["kind"] == "PodMonitor":
            continue
        terms = selector if item["kind"] == "Service" else selector["matchLabels"]
        chosen = [name for name, labels in everyone.items() if terms.items() <= labels.items()]
        assert len(chosen) == 1, (item["kind"], item["metadata"]["name"], chosen)


def test_another_version_of_the_chart_restarts_no_pod(tmp_path: Path) -> None:
    shutil.copytree(CHART.path, tmp_path / "shop")
    file = tmp_path / "shop/Chart.yaml"
    file.write_text(re.sub("(?m)^version: .*$", "version: 99.0.0", file.read_text()))
    values = CHART.scenario("external").values
    assert values is not None
    later = tuple(documents(render(replace(CHART, path=tmp_path / "shop"), [values], namespace="shop")))

    assert later[0]["metadata"]["labels"]["helm.sh/chart"] == "shop-99.0.0"
    for name, item in of_kind(rendered("external"), "Deployment").items():
        assert of_kind(later, "Deployment")[name]["spec"] == item["spec"], name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_pod_has_a_policy_beside_the_refusal(scenario: str) -> None:
    manifests = rendered(scenario)
    policies = of_kind(manifests, "NetworkPolicy")

    for name, metadata, _ in pods(manifests):
        selecting = {
            policy for policy, item in policies.items() if selects(item["spec"]["podSelector"], metadata["labels"])
        }
        assert "shop-default-deny" in selecting, name
        assert len(selecting) == 2, (name, selecting)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_budget_keeps_a_node_from_being_drained(scenario: str) -> None:
    manifests = rendered(scenario)

    assert of_kind(manifests, "PodDisruptionBudget")
    for name, item in of_kind(manifests, "PodDisruptionBudget").items():
        assert item["spec"]["maxUnavailable"] == 1, name


@pytest.mark.parametrize("role", ["web", "celery-notifications", "worker-notifications", "beat", "cli"])
def test_every_server_of_the_page_can_be_reached(role: str, tmp_path: Path) -> None:
    """Those that its values name; the Secrets that it has made name PostgreSQL and Redis."""
    values = yaml.safe_load(INSTALL["shop-values.yaml"])
    addresses = [values["email"]["url"].partition("://")[2], *values["kafka"]["bootstrapServers"].split(",")]
    servers = [(host, int(port)) for host, _, port in (address.partition(":") for address in addresses)]
    rules = of_kind(installed("shop-values.yaml", tmp_path), "NetworkPolicy")[f"shop-{role}"]["spec"]["egress"]

    for host, port in [*servers, ("postgresql", 5432), ("redis", 6379)]:
        [rule] = [one for one in rules if port in {where["port"] for where in one["ports"]}]
        namespaces = {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule.get("to", [])
        }
        assert not namespaces or host.split(".")[1] in namespaces, (host, rule)


# Secrets


def test_passwords_stand_in_secrets_alone() -> None:
    manifests = rendered("minimal")
    secrets = {value for item in of_kind(manifests, "Secret").values() for value in item["stringData"].values()}
    elsewhere = yaml.safe_dump_all(item for item in manifests if item["kind"] != "Secret")

    assert len(secrets) == 6
    assert not [value for value in secrets if value in elsewhere]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_variable_with_a_secret_is_given_by_value(scenario: str) -> None:
    for name, _, spec in pods(rendered(scenario)):
        for container in containers(spec):
            for variable in container.get("env", []):
                harmless = variable.get("value", "") in {
                    "memory:",
                    "postgresql://nobody@localhost/none",
                    "redis://localhost",
                }
                if re.search("PASSWORD$|SECRET|TOKENS$|_URL$", variable["name"]) and not harmless:
                    assert "valueFrom" in variable or variable["value"].startswith("/etc/"), (name, variable)


def test_environment_variables_with_secrets_are_refused() -> None:
    for variable in ("DATABASE_URL", "DJANGO_SECRET_KEY", "SHOP_API_TOKENS", "KAFKA_SASL_PASSWORD", "MY_PASSWORD"):
        with pytest.raises(ChartsError, match=f"app.env.{variable}: a ConfigMap is no place for it"):
            rendered("external", f"app.env.{variable}=x")


def test_mail_with_a_password_is_refused() -> None:
    with pytest.raises(ChartsError, match="email/url"):
        rendered("celery", "email.url=smtp://me:secret@mail.example.com:25")


# The shop itself


def shop_services() -> list[str]:
    """Return the services that the shop's settings name."""
    for node in ast.walk(ast.parse((ROOT / "apps/shop/config/settings.py").read_text())):
        if isinstance(node, ast.DictComp) and isinstance(node.generators[0].iter, ast.Tuple):
            return [ast.literal_eval(name) for name in node.generators[0].iter.elts]
    raise AssertionError("the settings name no services")


def time_limits(service: str) -> Iterator[int]:
    for node in ast.walk(ast.parse((ROOT / f"apps/shop/{service}/tasks.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "time_limit":
            yield ast.literal_eval(node.value)


def test_services_are_the_shops() -> None:
    assert sorted(VALUES["services"]) == sorted(shop_services())


@pytest.mark.parametrize("service", sorted(VALUES["services"]))
def test_pods_wait_for_the_longest_task(service: str) -> None:
    longest = max(time_limits(service), default=0)
    manifests = rendered("external")
    for role in ("celery", "worker"):
        spec = of_kind(manifests, "Deployment")[f"shop-{role}-{service}"]["spec"]["template"]["spec"]
        assert spec["terminationGracePeriodSeconds"] > longest
    drain = next(word for word in spec["containers"][0]["command"] if word.startswith("--drain-timeout="))
    assert longest < int(drain.partition("=")[2]) < spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", [*SCENARIOS, *INSTALL])
def test_pods_wait_for_the_longest_task_of_their_queues(name: str, tmp_path: Path) -> None:
    manifests = rendered(name) if name in SCENARIOS else installed(name, tmp_path)
    for deployment, item in of_kind(manifests, "Deployment").items():
        if deployment.startswith("shop-celery-"):
            spec = item["spec"]["template"]["spec"]
            longest = max(limit for queue in queues(spec) for limit in [0, *time_limits(queue)])
            assert spec["terminationGracePeriodSeconds"] > longest, deployment


def queues(spec: Manifest) -> list[str]:
    """Return the queues that a pod of Celery serves."""
    command = spec["containers"][0]["command"]
    return str(next(word for word in command if word.startswith("--queues="))).removeprefix("--queues=").split(",")


def test_every_queue_is_served_in_every_scenario() -> None:
    for scenario in SCENARIOS:
        served: list[str] = []
        for name, item in of_kind(rendered(scenario), "Deployment").items():
            if name.startswith("shop-celery-"):
                served += queues(item["spec"]["template"]["spec"])
        assert sorted(served) == sorted(shop_services()), scenario


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_command_exists(scenario: str) -> None:
    seen = set()
    for _, _, spec in pods(rendered(scenario)):
        for container in containers(spec):
            words = container.get("command", [])
            script = words[2] if words[:2] == ["sh", "-c"] else shlex.join(words)
            for line in re.findall(r"\b(?:taskbridge|python manage\.py) [a-z][^|;>\n]*", script.replace("\\\n", " ")):
                command = shlex.split(line)
                seen.add(" ".join(command[:3]))
                if command[:3] != ["python", "manage.py", "showmigrations"]:  # Django's own
                    check_command(command, whole=True)

    assert any(command.startswith("python manage.py migrate") for command in seen)
    assert any(command.startswith("taskbridge relay") for command in seen) == (scenario != "celery")


def test_users_of_kafka_are_those_of_its_chart() -> None:
    kafka = find("kafka")
    users = {
        item["metadata"]["name"]
        for item in documents(render(kafka, namespace="kafka", settings=["users.namespace=shop"]))
        if item["kind"] == "KafkaUser"
    }

    used = {
        variable["value"]
        for _, _, spec in pods(rendered("external"))
        for container in containers(spec)
        for variable in container["env"]
        if variable["name"] == "KAFKA_SASL_USERNAME"
    }

    assert used == users


def test_only_the_command_line_and_the_topics_job_may_create_topics() -> None:
    powerful = {
        name
        for name, _, spec in pods(rendered("external"))
        for container in containers(spec)
        if {"name": "KAFKA_SASL_USERNAME", "value": "shop-cli"} in container["env"]
    }

    assert powerful == {"Deployment shop-cli", "Job shop-topics-1"}


def test_versions_are_those_of_the_project() -> None:
    assert yaml.safe_load((CHART.path / "Chart.yaml").read_text())["appVersion"] == __version__
    images = {one["image"] for one in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()}
    for database in ("postgresql", "redis"):
        image = VALUES[database]["image"]
        assert f"{image['repository']}:{image['tag']}" in images


# Sizes


def test_trying_it_out_takes_little() -> None:
    """What is to run at once, jobs included, asks for at most one and a half processors."""
    wanted = 0.0
    for item in rendered("minimal"):
        if item["kind"] in {"Deployment", "StatefulSet", "Job"}:
            spec = item["spec"]["template"]["spec"]
            cpu = max(_processors(container["resources"]["requests"]["cpu"]) for container in containers(spec))
            wanted += cpu * item["spec"].get("replicas", 1)

    assert 0.5 < wanted <= 1.5


def _processors(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
