"""The operator as a process beside the cluster, what it scales, and the Kafka that it asks."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from devstack.ports import HOST, free_port
from tests.cluster.kube import ROOT, Kube, wait_for

CHART = ROOT / "charts" / "operator"
CRDS = CHART / "templates" / "crds"
GOLDEN = Path(__file__).parent / "golden"
PATIENCE = 120.0


RELEASE = {"meta.helm.sh/release-name": "lagscaler", "meta.helm.sh/release-namespace": "shop"}
"""Whose the CRDs are: a release of another name, or in another namespace, does not take them over."""


def definitions() -> list[dict[str, Any]]:
    """Return the CRDs, as if the chart had been installed with `crds.install`."""
    found = []
    for path in sorted(CRDS.glob("*.yaml")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("{{")]
        item = yaml.safe_load("\n".join(lines))
        item["metadata"]["annotations"] |= RELEASE
        item["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
        found.append(item)
    return found


def define(kube: Kube) -> None:
    """Let the cluster know our kinds."""
    kube.apply(*definitions())
    kube.run("wait", "--for=condition=Established", *(f"crd/{one['metadata']['name']}" for one in definitions()))


def admit(kube: Kube, namespace: str, release: str, *options: str) -> list[dict[str, Any]]:
    """Make the ServiceAccount of a release of charts/operator, with the rights that the chart gives it; return them."""
    # Helm asks no cluster here, which would say that our kinds are there.
    known = ("--api-versions", "taskbridge.dev/v1alpha1/KafkaConsumer")
    rendered = kube.helm("template", release, str(CHART), "--namespace", namespace, *known, *options)
    wanted = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    found = [item for item in yaml.safe_load_all(rendered) if item and item["kind"] in wanted]
    for item in found:
        if not item["kind"].startswith("Cluster"):
            item["metadata"].setdefault("namespace", namespace)
    kube.apply(*found)
    return found


def rights(kube: Kube, account: str, namespace: str) -> dict[str, set[str]]:
    """Return what an account may do to which resources, without what everybody may."""
    found = {}
    for line in kube.run("auth", "can-i", "--list", f"--as={account}", "--namespace", namespace).splitlines()[1:]:
        match = re.fullmatch(r"(\S+)\s+\[.*?\]\s+\[.*?\]\s+\[(.*)\]", line)
        if match and not match[1].startswith("selfsubject"):
            found[match[1]] = set(match[2].split())
    return found


def golden_rights(name: str) -> dict[str, set[str]]:
    """Return the rights that stand in a golden file."""
    lines = [line.split() for line in (GOLDEN / name).read_text().splitlines() if line and not line.startswith("#")]
    return {resource: set(verbs) for resource, *verbs in lines}


class Way:
    """The way of one client to a server, by a port of its own, that can be cut: then nobody is there."""

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self._server = (host, port)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        """Pass on what comes from now on."""
        self._listener = socket.create_server((HOST, self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Close the port, and every connection."""
        with self._lock:
            found, self._open = self._open, []
            if self._listener is not None:
                found.append(self._listener)
            self._listener = None
        for one in found:
            _shut(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                _shut(client)
                continue
            with self._lock:
                if self._listener is not listener:
                    # It was cut while this one came in.
                    _shut(client)
                    _shut(server)
                    return
                self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65_536):
            sink.sendall(part)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(sink)


def _shut(one: socket.socket) -> None:
    with closing(one):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


class Pass:
    """What the operator knows the API server by: a token of the chart's ServiceAccount, and a way that can be cut."""

    def __init__(self, kube: Kube, namespace: str, folder: Path, *options: str) -> None:
        """`options` are Helm's, for the rights that are given."""
        admit(kube, namespace, "lagscaler", "--values", str(CHART / "ci" / "minimal-values.yaml"), *options)
        config = json.loads(kube.run("config", "view", "--raw", "--flatten", "--minify", "--output", "json"))
        token = kube.run("create", "token", "lagscaler", "--namespace", namespace, "--duration=8h").strip()
        [cluster] = config["clusters"]
        [user] = config["users"]
        server = urlsplit(cluster["cluster"]["server"])
        self.way = Way(server.hostname or HOST, server.port or 443)
        # An API server's certificate has that name, and not its address here.
        cluster["cluster"]["server"] = f"https://localhost:{self.way.port}"
        user["user"] = {"token": token}
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(config))


class Operator:
    """`python -m lagscaler run`, with a settings file that can be changed."""

    def __init__(self, folder: Path, kubeconfig: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "operator.log"
        self.port = free_port()
        self.write(settings)

    def write(self, settings: Mapping[str, Any]) -> None:
        """Change the settings file."""
        (self._folder / "config.yaml").write_text(yaml.safe_dump(dict(settings)))

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig), "PYTHONPATH": str(ROOT / "operator")}
        command = [sys.executable, "-m", "lagscaler", "run", "--config", str(self._folder / "config.yaml")]
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                [*command, "--http", f"127.0.0.1:{self.port}"], env=environment, stdout=sink, stderr=subprocess.STDOUT
            )
        wait_for(lambda: self.get("/readyz") == "ok\n", "the operator is ready", PATIENCE, 0.2)

    @property
    def pid(self) -> int:
        """Which process it is."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> int:
        """Ask it to end; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        status = self._process.wait(PATIENCE)
        self._process = None
        return status

    def get(self, path: str) -> str:
        """Return what it answers, empty when it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            assert self._process is None or self._process.poll() is None, self.log.read_text()
            return ""


class Log:
    """A topic with one consumer group, whose commits the test makes itself."""

    def __init__(self, bootstrap: str, topic: str, partitions: int = 4) -> None:
        self.topic, self.group, self.partitions = topic, f"{topic}-group", partitions
        self._servers = {"bootstrap.servers": bootstrap}
        admin = AdminClient(self._servers)
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(60)
        wait_for(lambda: self._known(admin), f"{topic} is known", PATIENCE, 0.2)

    def write(self, count: int) -> None:
        """Append so many records to each partition."""
        producer = Producer(self._servers)
        for number in range(self.partitions):
            for _ in range(count):
                producer.produce(self.topic, b"x", partition=number)
        assert producer.flush(60) == 0

    def commit(self, offset: int) -> None:
        """Commit an offset in every partition, as a consumer of the group would."""
        with closing(Consumer({**self._servers, "group.id": self.group, "enable.auto.commit": False})) as consumer:
            offsets = [TopicPartition(self.topic, number, offset) for number in range(self.partitions)]
            # The first commit to a broker finds no coordinator yet.
            wait_for(lambda: _committed(consumer, offsets), f"{self.group} is committed", PATIENCE, 0.2)

    def _known(self, admin: AdminClient) -> bool:
        found = admin.list_topics(timeout=10).topics.get(self.topic)
        return found is not None and len(found.partitions) == self.partitions


class Members:
    """Consumers that have joined a log's group, one for each pod that there may be; they wait until told to work."""

    def __init__(self, bootstrap: str, log: Log, count: int) -> None:
        self._log = log
        self._working = threading.Event()
        self._ended = threading.Event()
        self._servers = {"bootstrap.servers": bootstrap}
        self._threads = [threading.Thread(target=self._run, name=f"member {number}") for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def work(self) -> None:
        """Consume everything that is there, and what comes."""
        self._working.set()

    def _run(self) -> None:
        own = {"group.id": self._log.group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        with closing(Consumer({**self._servers, **own})) as consumer:
            consumer.subscribe([self._log.topic], on_assign=lambda one, parts: one.pause(_assigned(one, parts)))
            while not self._ended.is_set():
                if self._working.is_set():
                    consumer.resume(consumer.assignment())
                if consumer.consume(500, 0.2):
                    consumer.commit(asynchronous=False)


def _assigned(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    consumer.assign(partitions)
    return partitions


def _committed(consumer: Consumer, offsets: list[TopicPartition]) -> bool:
    try:
        consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        if error.args[0].retriable() or error.args[0].code() == KafkaError.NOT_COORDINATOR:
            return False
        raise
    return True


class Town:
    """A namespace of the tests: Deployments of pods that do nothing, and KafkaConsumers on them."""

    def __init__(self, kube: Kube, namespace: str, image: str) -> None:
        """`image` has `sleep`, and is on the nodes."""
        self.kube = kube
        self.namespace = namespace
        self._image = image

    def deployment(self, name: str, replicas: int) -> None:
        """Make a Deployment, and wait until its pods are ready."""
        labels = {"app": name}
        container = {"name": "main", "image": self._image, "command": ["sleep", "infinity"], "imagePullPolicy": "Never"}
        self.kube.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
                    },
                },
            }
        )
        wait_for(lambda: self.ready(name) == replicas, f"{name} has {replicas} ready pods", PATIENCE)

    def consumer(self, name: str, log: Log, **spec: Any) -> None:
        """Make a KafkaConsumer of a Deployment of its name, that decides fast."""
        self.kube.apply(
            {
                "apiVersion": "taskbridge.dev/v1alpha1",
                "kind": "KafkaConsumer",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "targetRef": {"name": name},
                    "group": log.group,
                    "topics": [log.topic],
                    "scaling": {"pollSeconds": 1},
                    "slo": {"latencySeconds": 30},
                    "capacity": {"perReplica": 100, "windowSeconds": 120},
                    "rebalance": {"maxPerHour": 1000, "scaleDownAfterSeconds": 3, "cooldownSeconds": 1},
                    # Longer than a test lets records wait for nobody: as soon as they count as stopped, none are added.
                    "stall": {"afterSeconds": 120},
                    **spec,
                },
            }
        )

    def change(self, kind: str, name: str, spec: Mapping[str, Any], *, check: bool = True) -> str:
        """Patch a spec; return what kubectl says."""
        patch = json.dumps({"spec": spec})
        return self.run("patch", kind, name, "--type=merge", "--patch", patch, check=check)

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl in the namespace."""
        return self.kube.run(*arguments, "--namespace", self.namespace, check=check)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return a resource."""
        return dict(self.kube.get(kind, self.namespace, name))

    def status(self, name: str, kind: str = "kcon") -> dict[str, Any]:
        """Return the status of one of ours; empty when it has none."""
        return dict(self.get(kind, name).get("status") or {})

    def condition(self, name: str, condition: str, kind: str = "kcon") -> dict[str, Any]:
        """Return a condition; empty when there is none."""
        found = [one for one in self.status(name, kind).get("conditions", []) if one["type"] == condition]
        return dict(found[0]) if found else {}

    def replicas(self, name: str) -> int:
        """Return what a Deployment asks for."""
        return int(self.get("deployment", name)["spec"]["replicas"])

    def ready(self, name: str) -> int:
        """Return how many of its pods are ready."""
        return int(self.get("deployment", name)["status"].get("readyReplicas", 0))

    def wait(self, name: str, condition: str, reason: str, kind: str = "kcon") -> dict[str, Any]:
        """Return a condition as soon as it has a reason."""

        def found() -> dict[str, Any] | None:
            one = self.condition(name, condition, kind)
            return one if one.get("reason") == reason else None

        return dict(wait_for(found, f"{condition} of {name} is {reason}", PATIENCE, 0.5))

    def wait_replicas(self, name: str, count: int) -> None:
        """Wait until a Deployment asks for so many."""
        wait_for(lambda: self.replicas(name) == count, f"{name} asks for {count}", PATIENCE, 0.3)

    def wait_more(self, name: str, count: int) -> int:
        """Return what a Deployment asks for as soon as that is more; how many more is the policy's affair."""
        return int(wait_for(lambda: max(0, self.replicas(name) - count), f"more than {count}", PATIENCE, 0.3)) + count

    def events(self, name: str, reason: str) -> list[dict[str, Any]]:
        """Return the events of one reason about a resource of ours."""
        chosen = f"involvedObject.name={name},reason={reason}"
        return list(self.kube.get("events", self.namespace, "--field-selector", chosen)["items"])

    def wait_event(self, name: str, reason: str) -> dict[str, Any]:
        """Return the first event of a reason, as soon as there is one."""
        return dict(wait_for(lambda: self.events(name, reason), f"event {reason} of {name}", PATIENCE, 0.5)[0])

    def row(self, kind: str, name: str, *options: str) -> dict[str, str]:
        """Return what `kubectl get` shows of a resource, by column."""
        head, line = self.run("get", kind, name, *options).splitlines()
        starts = [found.start() for found in re.finditer(r"\S+", head)]
        ends = [*starts[1:], None]
        return {head[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)}

    def at_once(self, kind: str, name: str, *options: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a resource and its row, both of the same version."""

        def both() -> tuple[dict[str, Any], dict[str, str]] | None:
            found, row = self.get(kind, name), self.row(kind, name, *options)
            version = self.get(kind, name)["metadata"]["resourceVersion"]
            return (found, row) if found["metadata"]["resourceVersion"] == version else None

        found, row = wait_for(both, f"{name} is read and shown without a change between", PATIENCE, 0.2)
        return found, row


def steady(condition: Any, seconds: float) -> bool:
    """Return whether a condition holds all the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not condition():
            return False
        time.sleep(0.3)
    return True
