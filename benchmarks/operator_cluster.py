"""The Kubernetes of the operator's benchmark, and in a namespace of its own what the operator scales there."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import aiohttp
import click
import yaml  # type: ignore[import-untyped]
from kubernetes_asyncio import client, config

from benchmarks.grounds import BenchmarkFailedError
from charts.errors import ChartsError
from charts.own import write_definitions
from cluster.errors import ClusterError
from cluster.lifecycle import Cluster
from lagscaler.kafka.sampler import Request

AT_ONCE = 16
"""Requests under way at the same time."""
TIMEOUT = 60.0
PATIENCE = 1_200.0
"""Seconds for Deployments and pods to be there, or to be gone: their controllers write twenty times a second each."""
LOOK = 2.0
"""Seconds between two looks at what is waited for."""

_APPS = "/apis/apps/v1/namespaces"
_OWN = "/apis/taskbridge.dev/v1alpha1"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

Json = dict[str, Any]


class RefusedError(BenchmarkFailedError):
    """The API server refused a request, or did not answer it; then `status` is 0."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@contextmanager
def cluster_for(given: Path | None) -> Iterator[Path]:
    """
    Yield a kubeconfig: the given one, or that of a cluster which is started here and ended afterwards.

    Raises BenchmarkFailedError when it cannot be started: not as root, for instance.
    """
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-cluster-") as folder:
        cluster = Cluster(Path(folder) / "cluster", lambda line: click.echo(line, err=True))
        try:
            cluster.up()
            try:
                yield cluster.layout.kubeconfig
            finally:
                cluster.down()
        except ClusterError as error:
            raise BenchmarkFailedError(f"{error} Or name a cluster that runs with --kubeconfig.") from error


class Kubernetes:
    """Requests to the API server of a kubeconfig; they raise RefusedError."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._client: client.ApiClient | None = None

    async def __aenter__(self) -> Self:
        configuration = client.Configuration()
        try:
            await config.load_kube_config(str(self._kubeconfig), client_configuration=configuration)
        except config.ConfigException as error:
            raise BenchmarkFailedError(f"{self._kubeconfig} is no kubeconfig: {error}") from error
        configuration.connection_pool_maxsize = AT_ONCE
        self._client = client.ApiClient(configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """Return the decoded answer; a PATCH merges."""
        api = self._client
        assert api is not None
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers: dict[str, str] = {"Accept": "application/json", "Content-Type": kind}
        await api.update_params_for_auth(headers, [], ["BearerToken"])
        try:
            async with self._slots:
                answer = await api.rest_client.request(
                    method, str(api.configuration.host) + path, headers=headers, body=body,
                    _preload_content=False, _request_timeout=TIMEOUT,
                )  # fmt: skip
                async with answer:
                    status, text = answer.status, await answer.text()
        except client.ApiException as error:
            status, text = error.status or 0, str(error.body or error.reason)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RefusedError(0, f"the Kubernetes API does not answer ({method} {path}): {error}") from error
        if not 200 <= status < 300:
            raise RefusedError(status, f"{method} {path} was answered with {status}: {text.strip()[:300]}")
        found: Json = json.loads(text)
        return found

    async def exists(self, path: str) -> bool:
        """Return whether something is there."""
        try:
            await self.request("GET", path)
        except RefusedError as error:
            if error.status == 404:
                return False
            raise
        return True


def deployment(name: str) -> Json:
    """Return a Deployment of one pod, which no scheduler looks at and no node runs."""
    labels = {"app": name}
    spec = {"schedulerName": "nobody", "containers": [{"name": "main", "image": "taskbridge/nothing"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def consumer(request: Request) -> Json:
    """Return the KafkaConsumer of a group that scales the Deployment of the group's name, all else by default."""
    return {
        "apiVersion": "taskbridge.dev/v1alpha1",
        "kind": "KafkaConsumer",
        "metadata": {"name": request.group},
        "spec": {"targetRef": {"name": request.group}, "group": request.group, "topics": list(request.topics)},
    }


class Town:
    """The namespace; its pods are ready because this says so in place of a kubelet."""

    def __init__(self, api: Kubernetes) -> None:
        self.namespace = f"benchmark-{uuid4().hex[:8]}"
        self._api = api
        self._pods = f"/api/v1/namespaces/{self.namespace}/pods"

    async def fill(self, requests: Sequence[Request], advance: Callable[[], None]) -> None:
        """Make a Deployment and a KafkaConsumer for each group, and return when every Deployment has its pod ready."""
        for path, documents in (
            (f"{_APPS}/{self.namespace}/deployments", [deployment(one.group) for one in requests]),
            (f"{_OWN}/namespaces/{self.namespace}/kafkaconsumers", [consumer(one) for one in requests]),
        ):
            await self._create(path, documents, advance)
        known = 0

        async def all_ready() -> bool:
            nonlocal known
            found = await self._api.request("GET", f"{_APPS}/{self.namespace}/deployments?resourceVersion=0")
            ready = len([one for one in found["items"] if one["status"].get("readyReplicas", 0)])
            for _ in range(ready - known):
                advance()
            known = max(known, ready)
            return known >= len(requests)

        await _until(all_ready, "a ready pod of every Deployment")

    async def attend(self) -> None:
        """Say of every new pod that it is ready, until cancelled."""
        running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        while True:
            await asyncio.sleep(LOOK)
            found = await self._api.request("GET", f"{self._pods}?fieldSelector=status.phase=Pending")
            names = [one["metadata"]["name"] for one in found["items"]]
            await asyncio.gather(*(self._say(f"{self._pods}/{name}/status", running) for name in names))

    async def _say(self, path: str, patch: Json) -> None:
        try:
            await self._api.request("PATCH", path, patch)
        except RefusedError as error:
            # A pod may go as fast as it came.
            if error.status not in {404, 409}:
                raise

    async def _create(self, path: str, documents: Iterable[Json], advance: Callable[[], None]) -> None:
        async def create(document: Json) -> None:
            await self._api.request("POST", path, document)
            advance()

        await asyncio.gather(*(create(document) for document in documents))


@asynccontextmanager
async def town(kubeconfig: Path) -> AsyncIterator[Town]:
    """Yield a new namespace, with our kinds known; afterwards it is gone, and so are the kinds if this made them."""
    async with Kubernetes(kubeconfig) as api:
        defined = await _define(api)
        try:
            one = Town(api)
            meta = {"metadata": {"name": one.namespace}}
            await api.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", **meta})
            try:
                yield one
            finally:
                await _remove(api, f"/api/v1/namespaces/{one.namespace}")
        finally:
            for plural, path in defined.items():
                # With a definition would go what somebody else has made of it meanwhile.
                if not (await api.request("GET", f"{_OWN}/{plural}?limit=1"))["items"]:
                    await _remove(api, path)


async def _define(api: Kubernetes) -> dict[str, str]:
    """Let the cluster know our kinds; return those that it did not know before: the plural and where it is defined."""
    made = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-crds-") as folder:
        try:
            paths = sorted(write_definitions(Path(folder)).iterdir())
        except (ChartsError, ClusterError) as error:
            raise BenchmarkFailedError(str(error)) from error
        definitions = [yaml.safe_load(path.read_text()) for path in paths]
    for definition in definitions:
        path = f"{_DEFINITIONS}/{definition['metadata']['name']}"
        if not await api.exists(path):
            await api.request("POST", _DEFINITIONS, definition)
            made[definition["spec"]["names"]["plural"]] = path
    for definition in definitions:
        plural = definition["spec"]["names"]["plural"]
        await _until(partial(api.exists, f"{_OWN}/{plural}?limit=1"), f"the kind of {plural}")
    return made


async def _remove(api: Kubernetes, path: str) -> None:
    async def is_gone() -> bool:
        return not await api.exists(path)

    await api.request("DELETE", path)
    await _until(is_gone, f"the end of {path}")


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return once the condition holds; raise BenchmarkFailedError when `what` does not come."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await asyncio.sleep(LOOK)
    except TimeoutError as error:
        raise BenchmarkFailedError(f"{what} did not come within {PATIENCE:g} s") from error
