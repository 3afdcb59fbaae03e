"""The operator on the cluster of the shop, with a slow mail server and a plain consumer for it to look after."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kube import wait_for
from tests.cluster.system import KAFKA, System

FOLDER = Path(__file__).parent

PACE = {
    "apiVersion": "taskbridge.dev/v1alpha1",
    "kind": "KafkaConsumer",
    "metadata": {"name": "pace", "namespace": "shop"},
    "spec": {
        "targetRef": {"kind": "Deployment", "name": "pace"},
        "group": "shop.reports",
        "topics": ["shop.reports"],
        "scaling": {"pollSeconds": 1, "maxReplicas": 4},
        "slo": {"latencySeconds": 60},
        "rebalance": {"maxPerHour": 200, "scaleDownAfterSeconds": 10, "cooldownSeconds": 5},
        "capacity": {"windowSeconds": 60},
        "idle": {"afterSeconds": 5},
        "stall": {"afterSeconds": 60},
    },
}
"""A consumer that is not the bridge's; everything about it happens in seconds."""

POISON = "poison"
"""A record with this word is not done until the mail server is told otherwise."""


class Operated:
    """The shop with the operator; commands fail the test unless they succeed."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.kube = system.kube

    def values(self) -> dict[str, Any]:
        """Return the shop's values with the operator at work on `notifications`, whose mail server is slow."""
        values = self.system.values()
        values["email"] = {"url": "smtp://mail.shop.svc.cluster.local:2525"}
        values["web"]["bridgeTokensSecret"] = "bridge-tokens"
        values["operator"] = {"enabled": True}
        spec = {key: PACE["spec"][key] for key in ("scaling", "slo", "rebalance", "capacity")}  # type: ignore[index]
        spec["stall"] = {"afterSeconds": 2}
        values["kafkaWorker"]["autoscaling"] = {"enabled": True, "spec": spec}
        return values

    def start(self) -> None:
        """Install the operator, and what it looks after."""
        text = (FOLDER / "operator.yaml").read_text().replace("SHOP_IMAGE", self.system.reference("shop"))
        programs = {file.name: file.read_text() for file in (FOLDER / "pods").glob("*.py")}
        self._stand_in()
        self.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "scripts", "namespace": "shop"},
                "data": programs,
            },
            *yaml.safe_load_all(text),
        )
        for pod in ("mail", "feeder"):
            self.kube.run("wait", "--namespace", "shop", f"pod/{pod}", "--for=condition=Ready", "--timeout=180s")
        self.system.secret("shop", "bridge-tokens", {"operator": secrets.token_urlsafe(40)})
        self.install_operator()
        self.system.install("shop", "shop", "shop", self.values())
        self.kube.apply(PACE)

    def install_operator(self) -> None:
        """Install the operator's chart."""
        repository, _, tag = self.system.reference("operator").rpartition(":")
        values = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "clusters": {
                "main": {
                    "bootstrapServers": KAFKA,
                    "securityProtocol": "SASL_PLAINTEXT",
                    "username": "shop-lagscaler",
                    "existingSecret": "shop-lagscaler",
                }
            },
            "bridges": {
                "main": {
                    "url": "http://shop-web.shop.svc/bridge/api/",
                    "existingSecret": "bridge-tokens",
                    "key": "operator",
                    "pollSeconds": 1,
                }
            },
        }
        self.system.install("lagscaler", "operator", "shop", values)

    def end(self) -> None:
        """Take away what `start` brought, and leave the shop as it was."""
        self.mail_takes(0)
        self.system.go_back()
        self.kube.run("delete", "kafkaconsumer", "pace", "--namespace", "shop", "--ignore-not-found")
        self.kube.helm("uninstall", "lagscaler", "--namespace", "shop", "--ignore-not-found", "--wait")
        self.system.install("shop", "shop", "shop", self.system.values())
        self.kube.run(
            "delete", "pod,deployment,service,networkpolicy,configmap", "--namespace", "shop", "--ignore-not-found",
            "mail", "feeder", "pace", "operator-tests", "scripts", "--timeout=120s",
        )  # fmt: skip

    def calm(self) -> None:
        """Let mails go at once, and give the plain consumer its first spec; an `apply` would leave what patches set."""
        self.mail_takes(0)
        self.mail_refuses(POISON)
        if self.kube.run("get", "kcon", "pace", "--namespace", "shop", "--ignore-not-found"):
            defaults = {"mode": "Auto", "replicas": None}
            idle = {**PACE["spec"]["idle"], "toZero": False}  # type: ignore[index]
            capacity = {**PACE["spec"]["capacity"], "perReplica": None}  # type: ignore[index]
            spec = {**PACE["spec"], **defaults, "idle": idle, "capacity": capacity}  # type: ignore[dict-item]
            self.patch("kcon", "pace", spec)
            # Back from a dry run the operator takes a Deployment at zero for one that somebody switched off.
            if self.replicas("pace") == 0:
                self.kube.run("scale", "deployment/pace", "--namespace", "shop", "--replicas=1")

    def consumer(self, name: str) -> dict[str, Any]:
        """Return the KafkaConsumer."""
        found: dict[str, Any] = self.kube.get("kafkaconsumer", "shop", name)
        return found

    def status(self, name: str) -> dict[str, Any]:
        """Return its status; nothing while the operator has not looked at it."""
        found: dict[str, Any] = self.consumer(name).get("status", {})
        return found

    def condition(self, name: str, kind: str, which: str = "kafkaconsumer") -> dict[str, str]:
        """Return one condition; its status is "" while there is none."""
        found = self.kube.get(which, "shop", name).get("status", {}).get("conditions", [])
        return next((one for one in found if one["type"] == kind), {"status": "", "reason": "", "message": ""})

    def patch(self, kind: str, name: str, spec: Mapping[str, Any], *, check: bool = True) -> str:
        """Change a resource's spec as `kubectl patch` does; return what kubectl says."""
        text = json.dumps({"spec": spec})
        return self.kube.run("patch", kind, name, "--namespace", "shop", "--type=merge", "--patch", text, check=check)

    def replicas(self, deployment: str) -> int:
        """Return how many pods a Deployment asks for."""
        return int(self.kube.get("deployment", "shop", deployment)["spec"]["replicas"])

    def wait_for_replicas(self, deployment: str, wanted: int) -> None:
        """Wait until a Deployment asks for so many pods."""
        wait_for(lambda: self.replicas(deployment) == wanted, f"{wanted} replicas of {deployment}", timeout=240)

    def events(self, name: str) -> set[str]:
        """Return the reasons of the events about a resource."""
        found = self.kube.get("events", "shop", "--field-selector", f"involvedObject.name={name}")["items"]
        return {one["reason"] for one in found}

    def rows(self, kind: str) -> dict[str, dict[str, str]]:
        """Return what `kubectl get` shows: name -> column -> text."""
        header, *lines = self.kube.run("get", kind, "--namespace", "shop").splitlines()
        # Columns begin where their titles do; a cell may be empty.
        titles = list(re.finditer(r"\S+", header))
        ends: list[int | None] = [*(title.start() for title in titles[1:]), None]
        rows = [
            {title[0]: line[title.start() : end].strip() for title, end in zip(titles, ends, strict=True)}
            for line in lines
        ]
        return {row["NAME"]: row for row in rows}

    def row(self, name: str) -> tuple[dict[str, str], dict[str, Any]] | None:
        """Return what `kubectl get` shows of a KafkaConsumer, and that itself; None when it changed meanwhile."""
        before = self.consumer(name)
        row = self.rows("kcon")[name]
        same = self.consumer(name)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        return (row, before) if same else None

    def metric(self, family: str, name: str) -> float | None:
        """
        Return what a metric of the operator says of a resource now, of all its series; None while there is none.

        The status follows figures more slowly.
        """
        script = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
        pod = self.kube.ready_pod("shop", "app.kubernetes.io/name=lagscaler")
        said = self.kube.execute("shop", pod, "python", "-c", script)
        found = re.findall(rf'^{family}{{[^}}]*name="{name}"[^}}]*}} (\S+)$', said, re.MULTILINE)
        return sum(map(float, found)) if found else None

    def decided(self, name: str) -> float:
        """Return how often the operator has decided about a consumer since it began."""
        return self.metric("lagscaler_decisions_total", name) or 0

    def mail_takes(self, seconds: float) -> None:
        """Have the mail server take so long for each mail."""
        self.kube.execute("shop", "mail", "sh", "-c", f"echo {seconds} > /tmp/next && mv /tmp/next /tmp/seconds")

    def mail_refuses(self, word: str) -> None:
        """Have the mail server refuse mails with a word; with the empty one, none."""
        self.kube.execute("shop", "mail", "sh", "-c", f"echo '{word}' > /tmp/word && mv /tmp/word /tmp/refused")

    def feed(self, count: int, value: str) -> None:
        """Write records for the plain consumer; each begins with the seconds that it takes."""
        self.kube.execute("shop", "feeder", "python", "/scripts/feed.py", str(count), value)

    def offsets(self) -> dict[str, list[int]]:
        """Return the plain consumer's committed offsets, and where its partitions end."""
        found: dict[str, list[int]] = json.loads(self.kube.execute("shop", "feeder", "python", "/scripts/committed.py"))
        return found

    def reported(self) -> Counter[tuple[int, int]]:
        """Return how often the plain consumer did each record, by partition and offset."""
        lines = self.kube.execute("shop", "mail", "cat", "/tmp/reports").splitlines()  # noqa: S108 - the pod's own
        return Counter((int(partition), int(offset)) for partition, offset, *_ in map(str.split, lines))

    def left(self) -> int:
        """Return how many records the plain consumer has not committed."""
        found = self.offsets()
        return sum(found["end"]) - sum(found["committed"])

    def _stand_in(self) -> None:
        def allowed(kind: str, number: int, *operations: str) -> list[str]:
            acl = f"users.extra[0].acls[{number}]"
            return [
                f"{acl}.resource.type={kind}",
                f"{acl}.resource.name=shop.reports",
                f"{acl}.resource.patternType=literal",
                f"{acl}.operations={{{','.join(operations)}}}",
            ]

        rendered = self.system.render_kafka(
            "users.lagscaler.enabled=true",
            "users.web.mayMove=true",
            "users.extra[0].name=shop-pace",
            *allowed("topic", 0, "Read", "Write", "Describe"),
            *allowed("group", 1, "Read", "Describe"),
        )
        self.system.stand_in(rendered=rendered)
