"""The whole system on a cluster: Kafka, what Strimzi would make of charts/kafka, and the charts themselves."""

from __future__ import annotations

import base64
import json
import secrets
import tarfile
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

import standin
from tests.cluster.conftest import ROOT, tool
from tests.cluster.kube import Kube

KAFKA = "kafka.kafka.svc.cluster.local:9092"

SERVICES = ("orders", "inventory", "fraud", "payments", "payouts", "notifications")
"""Those that an order passes through."""


class System:
    """The shop on one cluster."""

    def __init__(self, kube: Kube, images: dict[str, str]) -> None:
        self.kube = kube
        self._images = images

    def reference(self, name: str) -> str:
        """Return an image's name with its tag."""
        return self._images[f"{name}:reference"]

    def values(self) -> dict[str, Any]:
        """Return the values of charts/shop for a small cluster: all databases within, one Celery worker, few pods."""

        def image(name: str) -> dict[str, str]:
            repository, _, tag = self.reference(name).rpartition(":")
            return {"repository": repository, "tag": tag, "pullPolicy": "Never"}

        idle = {"enabled": False}
        services: dict[str, Any] = {name: {"celeryWorker": idle, "shadowWorker": idle} for name in SERVICES}
        services["orders"] = {"celeryWorker": {"queues": list(SERVICES)}}
        for name in SERVICES:
            if name not in {"orders", "notifications"}:
                services[name]["kafkaWorker"] = idle
        every = yaml.safe_load((ROOT / "charts/shop/values.yaml").read_text())["services"]
        services |= {name: idle for name in every if name not in SERVICES}
        small = {"requests": {"cpu": "20m", "memory": "96Mi"}}
        on_node1 = {"kubernetes.io/hostname": "node1"}
        return {
            "image": image("shop"),
            "app": {"generateSecret": True, "plainHttp": True, "journal": True},
            "email": {"url": "memory:"},
            "kafka": {"bootstrapServers": KAFKA, "securityProtocol": "SASL_PLAINTEXT"},
            "services": services,
            "web": {"replicas": 2, "processes": 1, "resources": small},
            "celeryWorker": {"resources": small},
            "kafkaWorker": {"processes": 1, "resources": small},
            "shadowWorker": {"resources": small},
            "relay": {"replicas": 1, "resources": small},
            "beat": {"resources": small},
            "jobs": {"resources": small, "seed": {"enabled": True, "customers": 20, "products": 10}},
            "postgresql": {
                "enabled": True, "image": image("postgres"), "persistence": idle, "resources": small,
                "nodeSelector": on_node1,
            },
            "redis": {
                "enabled": True, "image": image("redis"), "persistence": idle, "resources": small,
                "nodeSelector": on_node1,
            },
        }  # fmt: skip

    def prepare(self) -> None:
        """Make the namespaces and the resource definitions, as somebody does who installs Strimzi first."""
        for folder in tool("crds").splitlines():
            self.kube.run("apply", "--server-side", "--filename", folder, timeout=300)
        self.kube.run("wait", "--for=condition=Established", "--all", "customresourcedefinitions", "--timeout=60s")
        self.kube.run("apply", "--filename", str(ROOT / "k8s/namespaces.yaml"))

    def start_kafka(self) -> None:
        """Start Kafka, with an administrator's password that is made here."""
        self._secret("kafka", "kafka-admin", {"password": secrets.token_urlsafe(24)})
        text = (ROOT / "tests/cluster/kafka.yaml").read_text().replace("KAFKA_IMAGE", self.reference("kafka"))
        self.kube.apply(*yaml.safe_load_all(text))
        self.kube.run("rollout", "status", "--namespace", "kafka", "statefulset/kafka", "--timeout=240s", timeout=260)

    def render_kafka(self) -> str:
        """Return what charts/kafka renders for Strimzi, with the shop's users."""
        values = ("--set", "profile=dev", "--set", "listener.tls=false", "--set", "users.namespace=shop")
        chart = str(ROOT / "charts/kafka")
        versions = ("--api-versions", "kafka.strimzi.io/v1", "--api-versions", "kafka.strimzi.io/v1/Kafka")
        return self.kube.helm("template", "kafka", chart, "--namespace", "kafka", *values, *versions)

    def stand_in(self, rendered: str) -> dict[str, dict[str, str]]:
        """Apply a render's topics and users to Kafka, and its users' Secrets to the cluster; return what was done."""
        text = (ROOT / "tests/cluster/standin.yaml").read_text().replace("SHOP_IMAGE", self.reference("shop"))
        self.kube.apply(yaml.safe_load(text))
        self.kube.run("wait", "--namespace", "kafka", "pod/standin", "--for=condition=Ready", "--timeout=120s")
        self._copy("kafka", "standin", {"rendered.yaml": rendered.encode(), **_sources(standin), **_sources(yaml)})
        script = (
            "import pathlib, subprocess, sys; "
            "password = pathlib.Path('/etc/kafka-admin/password').read_text().strip(); "
            "pathlib.Path('/tmp/admin.properties').write_text("
            "'security.protocol=SASL_PLAINTEXT\\nsasl.mechanisms=SCRAM-SHA-512\\nsasl.username=admin\\nsasl.password=' "
            "+ password + '\\n'); "
            "sys.exit(subprocess.run([sys.executable, '-m', 'standin', '/tmp/rendered.yaml', '--bootstrap', "
            f"'{KAFKA}', '--properties', '/tmp/admin.properties', '--secrets-dir', '/tmp/secrets', '--json'])"
            ".returncode)"
        )
        done: dict[str, dict[str, str]] = json.loads(self.kube.execute("kafka", "standin", "python", "-c", script))
        found = self.kube.execute(
            "kafka", "standin", "sh", "-c", "for f in /tmp/secrets/*/*; do echo ---; cat $f; done"
        )
        self.kube.apply(*(one for one in yaml.safe_load_all(found) if one))
        return done

    def install(self, release: str, chart: str, namespace: str, values: dict[str, Any], folder: Path) -> None:
        """Install or upgrade a release, and wait until all of it is ready."""
        file = folder / f"{release}-values.yaml"
        file.write_text(yaml.safe_dump(values))
        self.kube.helm(
            "upgrade", "--install", release, str(ROOT / "charts" / chart), "--namespace", namespace,
            "--values", str(file), "--wait", "--timeout", "10m", timeout=700,
        )  # fmt: skip

    def bridge(self, *arguments: str, check: bool = True) -> str:
        """Return what `taskbridge` prints in the pod that is there for it."""
        return self.kube.execute("shop", "deployment/shop-cli", "taskbridge", *arguments, check=check)

    def manage(self, *arguments: str) -> str:
        """Return what `python manage.py` prints in the pod that is there for it."""
        return self.kube.execute("shop", "deployment/shop-cli", "python", "manage.py", *arguments)

    def _secret(self, namespace: str, name: str, values: dict[str, str]) -> None:
        metadata = {"namespace": namespace, "name": name}
        self.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def _copy(self, namespace: str, pod: str, files: dict[str, bytes]) -> None:
        packed = BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, BytesIO(content))
        # By Python and as text: the image has no need of tar, nor have pipes of bytes.
        script = (
            "import base64, io, sys, tarfile; "
            "tarfile.open(fileobj=io.BytesIO(base64.b64decode(sys.stdin.read()))).extractall('/tmp')"
        )
        text = base64.b64encode(packed.getvalue()).decode()
        self.kube.run("exec", "--stdin", "--namespace", namespace, pod, "--", "python", "-c", script, stdin=text)


def _sources(package: ModuleType) -> dict[str, bytes]:
    folder = Path(package.__file__ or "").parent
    return {f"{folder.name}/{file.name}": file.read_bytes() for file in folder.glob("*.py")}
