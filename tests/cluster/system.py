"""The whole system on a cluster: Kafka, what Strimzi would make of charts/kafka, and the charts themselves."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import tarfile
from collections import Counter
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

import standin
from standin.resources import read
from standin.secret import manifest
from tests.cluster.kube import ROOT, Kube

ZONE = "topology.kubernetes.io/zone"
"""The label by which the two nodes are known: what they are called differs from one cluster to the next."""

KEPT, DRAINED = "zone-1", "zone-2"
"""Where the databases, Kafka and all that stands beside the shop are, and where the node is that is drained."""

KAFKA = "kafka.kafka.svc.cluster.local:9092"

SERVICES = ("orders", "inventory", "fraud", "payments", "payouts", "notifications")
"""Those that an order passes through."""

MOVED = ("orders", "notifications")
"""Services that have Kafka workers in this small installation."""

WORKLOADS = ("web", "celery-orders", "relay", "beat", "cli", *(f"worker-{name}" for name in MOVED))
"""What the release runs beside its databases."""


CONNECT = "shop-connect"
"""What charts/kafka calls the Connect that publishes the outbox of this installation."""

DJANGO = "import django; django.setup()\n"

TRAFFIC = """
import sys, threading
from django.core.management import call_command
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
print("begun", flush=True)
while not ended.is_set():
    call_command("traffic", "--rate", sys.argv[1], "--seconds", "3", "--json")
"""
"""People use the shop until a line comes in. In short rounds, since one that is broken off may lose what it does."""


class Load:
    """What goes on in a pod until it is told to end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """`process` says a line once it has begun, and reads one to end."""
        self._process = process
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n", self._said()

    def assert_goes_on(self) -> None:
        """Fail, with what it said, if it has ended by itself."""
        assert self._process.poll() is None, self._said()

    def end(self) -> str:
        """Have it end, and return what it said; it must have gone on until now, and nothing may have failed."""
        self.assert_goes_on()
        said = self._said()
        assert self._process.returncode == 0, said
        return said

    def _said(self) -> str:
        return self._process.communicate("enough\n", timeout=240)[0]


class System:
    """The shop on one cluster."""

    def __init__(self, kube: Kube, images: dict[str, str], folder: Path) -> None:
        """`folder` takes files of values."""
        self.kube = kube
        self._images = images
        self._folder = folder
        self._secrets: dict[str, bytes] = {}
        self.stood_in: dict[str, dict[str, str]] = {}
        """What the stand-in did when it first had a Kafka, by kind and name."""

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
        kept = {ZONE: KEPT}
        connect = {"strimzi.io/cluster": CONNECT, "strimzi.io/name": f"{CONNECT}-connect"}
        return {
            "image": image("shop"),
            "app": {
                "generateSecret": True, "plainHttp": True, "journal": True,
                "env": {"SHOP_PAYOUT_DELAY": "1", "SHOP_FOLLOW_UP_DELAY": "2"},
            },
            "email": {"url": "memory:"},
            "kafka": {"bootstrapServers": KAFKA, "securityProtocol": "SASL_PLAINTEXT"},
            "services": services,
            "startup": {"dispatchTimeout": 10},
            "web": {"replicas": 2, "processes": 1, "resources": small},
            "celeryWorker": {"resources": small},
            "kafkaWorker": {"processes": 1, "resources": small},
            "shadowWorker": {"resources": small},
            "relay": {"replicas": 1, "resources": small},
            "beat": {"resources": small},
            "jobs": {"resources": small, "seed": {"enabled": True, "customers": 20, "products": 10}},
            "postgresql": {
                "enabled": True, "image": image("postgres"), "persistence": idle, "resources": small,
                "nodeSelector": kept,
            },
            "redis": {
                "enabled": True, "image": image("redis"), "persistence": idle, "resources": small,
                "nodeSelector": kept,
            },
            "networkPolicy": {"postgresql": {"clients": [{"podSelector": {"matchLabels": connect}}]}},
        }  # fmt: skip

    def complete(self) -> None:
        """Install what is not there yet of Kafka and both charts, and wait until all of it is ready."""
        if not self.stood_in:
            self.start_kafka()
            self.stand_in()
        values = {"mode": "external", "external": {"bootstrapServers": KAFKA}}
        self.install("kafka", "kafka", "kafka", values)
        if self.revision("shop"):
            self.kube.rolled_out("shop", *(f"deployment/shop-{name}" for name in WORKLOADS))
        else:
            self.install("shop", "shop", "shop", self.values())

    def start_kafka(self) -> None:
        """Start Kafka, with an administrator's password that is made here, unless it runs already."""
        if not self.kube.run("get", "secret", "kafka-admin", "--namespace", "kafka", "--ignore-not-found"):
            self.secret("kafka", "kafka-admin", {"password": secrets.token_urlsafe(24)})
        text = (ROOT / "tests/cluster/kafka.yaml").read_text().replace("KAFKA_IMAGE", self.reference("kafka"))
        self.kube.apply(*yaml.safe_load_all(text))
        self.kube.rolled_out("kafka", "statefulset/kafka")

    def render_kafka(self, *settings: str) -> str:
        """Return what charts/kafka renders for Strimzi, with the shop's users; `settings` are values, `name=value`."""
        chosen = ("profile=dev", "listener.tls=false", "users.namespace=shop", *settings)
        values = [word for one in chosen for word in ("--set", one)]
        chart = str(ROOT / "charts/kafka")
        versions = ("--api-versions", "kafka.strimzi.io/v1", "--api-versions", "kafka.strimzi.io/v1/Kafka")
        return self.kube.helm("template", "kafka", chart, "--namespace", "kafka", *values, *versions)

    def make_secrets(self) -> None:
        """Make the users' Secrets before there is a Kafka that could know the users; the stand-in then takes these."""
        wanted = read((one for one in yaml.safe_load_all(self.render_kafka()) if one), "kafka")
        made = [manifest(user, secrets.token_urlsafe(24)) for user in wanted.users]
        self.kube.apply(*made)
        for one in made:
            metadata = one["metadata"]
            self._secrets[f"secrets/{metadata['namespace']}/{metadata['name']}.yaml"] = yaml.safe_dump(one).encode()

    def stand_in(self, *arguments: str, rendered: str = "") -> dict[str, dict[str, str]]:
        """
        Apply topics and users to Kafka, and the users' Secrets to the cluster; return what was done.

        They are those of `render_kafka()` unless others are given as `rendered`.
        """
        if not self.stood_in:
            text = (ROOT / "tests/cluster/standin.yaml").read_text().replace("SHOP_IMAGE", self.reference("shop"))
            self.kube.apply(yaml.safe_load(text))
            self.kube.run("wait", "--namespace", "kafka", "pod/standin", "--for=condition=Ready", "--timeout=120s")
            self._copy({**_sources(standin), **_sources(yaml), **self._secrets})
        self._copy({"rendered.yaml": (rendered or self.render_kafka()).encode()})
        script = (
            "import pathlib, subprocess, sys; "
            "password = pathlib.Path('/etc/kafka-admin/password').read_text().strip(); "
            "pathlib.Path('/tmp/admin.properties').write_text("
            "'security.protocol=SASL_PLAINTEXT\\nsasl.mechanisms=SCRAM-SHA-512\\nsasl.username=admin\\nsasl.password=' "
            "+ password + '\\n'); "
            "sys.exit(subprocess.run([sys.executable, '-m', 'standin', '/tmp/rendered.yaml', '--bootstrap', "
            f"'{KAFKA}', '--properties', '/tmp/admin.properties', '--secrets-dir', '/tmp/secrets', '--json', "
            "*sys.argv[1:]]).returncode)"
        )
        said = self.kube.execute("kafka", "standin", "python", "-c", script, *arguments)
        done: dict[str, dict[str, str]] = json.loads(said)
        found = self.kube.execute(
            "kafka", "standin", "sh", "-c", "for f in /tmp/secrets/*/*; do echo ---; cat $f; done"
        )
        self.kube.apply(*(one for one in yaml.safe_load_all(found) if one))
        self.stood_in = self.stood_in or done
        return done

    def rotate(self, user: str) -> None:
        """Do as Strimzi does when a user's Secret is deleted: a new password, to the brokers and in a new Secret."""
        self.kube.run("delete", "secret", user, "--namespace", "shop")
        self.kube.execute("kafka", "standin", "rm", f"/tmp/secrets/shop/{user}.yaml")  # noqa: S108 - the pod's own
        self.stand_in()

    def install(
        self, release: str, chart: str, namespace: str, values: dict[str, Any], *options: str, check: bool = True
    ) -> str:
        """
        Install or upgrade a release; return what helm says. Without `options` it waits until all of it is ready.

        `chart` is one of charts/, or a path.
        """
        file = self._folder / f"{release}-values.yaml"
        file.write_text(yaml.safe_dump(values))
        return self.kube.helm(
            "upgrade", "--install", release, str(ROOT / "charts" / chart), "--namespace", namespace,
            "--values", str(file), *(options or ("--wait", "--timeout", "10m")), timeout=700, check=check,
        )  # fmt: skip

    def revision(self, release: str) -> int:
        """Return the revision that the release of namespace shop has; 0 if there is none."""
        found = self.kube.helm("list", "--all", "--namespace", "shop", "--filter", f"^{release}$", "--output", "json")
        return int(json.loads(found)[0]["revision"]) if json.loads(found) else 0

    def cli(self) -> str:
        """Return the pod for commands; while an upgrade is stuck, that is the one from before."""
        return self.kube.ready_pod("shop", "app.kubernetes.io/component=cli")

    def bridge(self, *arguments: str, check: bool = True) -> str:
        """Return what `taskbridge` prints in the pod that is there for it."""
        return self.kube.execute("shop", self.cli(), "taskbridge", *arguments, check=check)

    def manage(self, *arguments: str) -> str:
        """Return what `python manage.py` prints in the pod that is there for it."""
        return self.kube.execute("shop", self.cli(), "python", "manage.py", *arguments)

    def python(self, script: str, *arguments: str) -> str:
        """Return what Python prints in the pod for commands, with Django set up."""
        return self.kube.execute("shop", self.cli(), "python", "-c", f"{DJANGO}{script}", *arguments)

    def sql(self, statement: str) -> str:
        """Return the rows of a statement, fields apart by `|`; run by the owner of the database."""
        login = "PGPASSWORD=$(cat /run/secrets/postgresql/password)"
        options = (
            "--host=127.0.0.1 --username=shop --dbname=shop --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1"
        )
        psql = f"{login} exec psql {options}"
        arguments = ("exec", "--stdin", "--namespace", "shop", "shop-postgresql-0", "--", "sh", "-c", psql)
        return self.kube.run(*arguments, stdin=statement).strip()

    def go_live(self) -> None:
        """Have Kafka's workers execute everything of the services that were chosen for it."""
        for service in MOVED:
            if self.stages()[service] == "live":
                continue
            self.bridge("cutover", service, "mirror")
            self.bridge("cutover", service, "live", "--percent", "100", "--override", "--reason", "a trial")

    def go_back(self) -> None:
        """Have Celery's workers execute everything again, and wait until Kafka's have nothing left."""
        for service in MOVED:
            self.bridge("cutover", service, "off", "--reason", "the trial is over")
        self.settled()

    def stages(self) -> dict[str, str]:
        """Return the stage of each service that was chosen."""
        said = json.loads(self.bridge("status", *MOVED, "--json"))
        return {one["service"]: one["stage"] for one in said["services"]}

    def traffic(self, rate: int, seconds: int) -> None:
        """Have people use the shop; all that they do must be done."""
        self.manage("traffic", "--rate", str(rate), "--seconds", str(seconds), "--json")

    def start_traffic(self, rate: int) -> Load:
        """Have people use the shop meanwhile."""
        command = ("python", "-c", f"{DJANGO}{TRAFFIC}", str(rate))
        return Load(self.kube.start("exec", "--stdin", "--namespace", "shop", self.cli(), "--", *command))

    def node(self, zone: str) -> str:
        """Return the name of the node in a zone."""
        [node] = json.loads(self.kube.run("get", "nodes", "--selector", f"{ZONE}={zone}", "--output", "json"))["items"]
        return str(node["metadata"]["name"])

    def account(self) -> dict[str, Any]:
        """Return what the journal makes of everything that was dispatched and run, as it stands now."""
        return self._journal("")

    def settled(self) -> dict[str, Any]:
        """Return the same, once nothing is left to run; nothing may have been lost, or have run twice."""
        found = self._journal("--wait 120")
        assert found["ok"], found
        return found

    def _journal(self, options: str) -> dict[str, Any]:
        # Its status is 1 while something is left to run.
        command = f"python manage.py journal --json {options} || true"
        found: dict[str, Any] = json.loads(self.kube.execute("shop", self.cli(), "sh", "-c", command, timeout=200))
        return found

    def secret(self, namespace: str, name: str, values: dict[str, str]) -> None:
        """Make a Secret."""
        metadata = {"namespace": namespace, "name": name}
        self.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def _copy(self, files: dict[str, bytes]) -> None:
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
        self.kube.run("exec", "--stdin", "--namespace", "kafka", "standin", "--", "python", "-c", script, stdin=text)


def _sources(package: ModuleType) -> dict[str, bytes]:
    folder = Path(package.__file__ or "").parent
    return {f"{folder.name}/{file.name}": file.read_bytes() for file in folder.glob("*.py")}


def ran_by_side(account: dict[str, Any], prefix: str = "") -> Counter[str]:
    """Return how many dispatches of an account ran once, by the side that ran them; those of some tasks, or of all."""
    found: Counter[str] = Counter()
    for line in account["lines"]:
        if line["task"].startswith(prefix):
            found[line["side"]] += line["ran_once"]
    return found
