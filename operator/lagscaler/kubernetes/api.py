"""Requests to the Kubernetes API."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes_asyncio import client, config

from lagscaler.kubernetes.kinds import DEPLOYMENTS, Kind
from lagscaler.kubernetes.patches import operations
from lagscaler.resources.reading import Key

TIMEOUT = 15.0
"""Seconds for one request: the next poll tries again."""

AT_ONCE = 16
"""Requests under way at the same time, so that a thousand consumers do not knock together."""

_AS = "?fieldManager=lagscaler"
"""Under which name the API server notes what is written."""

PAGE = 500
"""Resources of one page of a list."""

_Body = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A resource or a merge patch, or the operations of a JSON Patch."""

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class KubernetesError(Exception):
    """A request failed; `status` is the HTTP status, 0 when there was no answer, or none that can be read."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    @property
    def gone(self) -> bool:
        """Whether the resource, or the one of that identity, is no longer there."""
        return self.status == 404

    @property
    def refused(self) -> bool:
        """Whether the API server does not take the request as it is: a right is missing, or a webhook objects."""
        return 400 <= self.status < 500 and self.status not in {404, 408, 409, 429}


class KubernetesApi:
    """
    One connection to the API server, as the pod's service account or as the kubeconfig says.

    Every request is counted: `count` is called with the verb, the resource and the status code. Requests raise
    KubernetesError.
    """

    def __init__(self, count: Callable[[str, str, int], None]) -> None:
        self._count = count
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._client: client.ApiClient | None = None

    async def __aenter__(self) -> Self:
        """Read the credentials; raise KubernetesError when there are none."""
        configuration = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and _SERVICE_ACCOUNT.exists():
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise KubernetesError(
                0, f"no way to the Kubernetes API: {error}; run in a pod, or let KUBECONFIG name a kubeconfig"
            ) from error
        configuration.connection_pool_maxsize = AT_ONCE
        self._client = client.ApiClient(configuration)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def every(self, kind: Kind, namespace: str | None) -> list[dict[str, Any]]:
        """Return all resources of a kind in a namespace, or in the cluster."""
        found: list[dict[str, Any]] = []
        more = ""
        while True:
            query = urlencode({"limit": str(PAGE)} | ({"continue": more} if more else {}))
            page = await self._request("list", kind, f"{kind.path(namespace)}?{query}")
            found.extend(page.get("items") or ())
            more = (page.get("metadata") or {}).get("continue", "")
            if not more:
                return found

    async def one(self, kind: Kind, key: Key) -> dict[str, Any]:
        """Return a resource as it is now."""
        return await self._request("get", kind, kind.path(key.namespace, key.name))

    async def patch_status(
        self, kind: Kind, key: Key, uid: str, patch: Mapping[str, Any], *, first: bool = False
    ) -> dict[str, Any]:
        """
        Change members of the status of the resource with that identity, and return the resource.

        `patch` has them as they are to be, None for one that is to go; `first` says that there is no status yet.
        """
        path = kind.path(key.namespace, key.name, "status") + _AS
        try:
            return await self._request("patch", kind, path, operations(uid, patch, first=first), sub="status")
        except KubernetesError as error:
            # The answer does not say whether that one is gone, or whether its status may not be so.
            if error.status == 422 and await self._is_gone(kind, key, uid):
                raise KubernetesError(404, f"the {kind.name} {key} that was meant is gone") from error
            raise

    async def _is_gone(self, kind: Kind, key: Key, uid: str) -> bool:
        """Return whether the resource of that identity is no longer there, though another of its name may be."""
        try:
            found = await self.one(kind, key)
        except KubernetesError as error:
            return error.gone
        return bool((found.get("metadata") or {}).get("uid") != uid)

    async def scale(self, key: Key, replicas: int) -> dict[str, Any]:
        """Set the replicas of a Deployment, and return its Scale."""
        path = DEPLOYMENTS.path(key.namespace, key.name, "scale") + _AS
        return await self._request("patch", DEPLOYMENTS, path, {"spec": {"replicas": replicas}}, sub="scale")

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Create an Event."""
        return await self._request("create", EVENTS, f"/api/v1/namespaces/{namespace}/events", event)

    async def patch_event(self, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge into an Event."""
        return await self._request("patch", EVENTS, f"/api/v1/namespaces/{namespace}/events/{name}", patch)

    async def _request(
        self,
        verb: str,
        kind: Kind,
        path: str,
        body: _Body | None = None,
        *,
        sub: str = "",
    ) -> dict[str, Any]:
        status = 0
        try:
            async with self._slots:
                status, text = await self._send(_METHODS[verb], path, body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, config.ConfigException) as error:
            # The last two where the credentials, which are read again as they change, cannot be read.
            said = str(error) or "no answer in time"
            raise KubernetesError(0, f"the Kubernetes API does not answer ({verb} {path}): {said}") from error
        finally:
            self._count(verb, f"{kind.plural}/{sub}" if sub else kind.plural, status)
        if status >= 400:
            raise KubernetesError(status, f"{verb} {path}: {_said(text) or f'HTTP {status}'}")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise KubernetesError(
                0, f"the Kubernetes API answers in another form ({verb} {path}): {text.strip()[:100]!r}"
            )
        return found

    async def _send(self, method: str, path: str, body: _Body | None) -> tuple[int, str]:
        api = self._client
        if api is None:
            raise KubernetesError(0, "the connection to the Kubernetes API is not open")
        kind = "application/json"
        if method == "PATCH":
            kind = "application/merge-patch+json" if isinstance(body, Mapping) else "application/json-patch+json"
        headers: dict[str, str] = {"Accept": "application/json", "Content-Type": kind}
        await api.update_params_for_auth(headers, [], ["BearerToken"])
        try:
            answer = await api.rest_client.request(
                method, str(api.configuration.host) + path, headers=headers, body=body,
                _preload_content=False, _request_timeout=TIMEOUT,
            )  # fmt: skip
        except client.ApiException as error:
            return error.status or 0, str(error.body or error.reason)
        async with answer:
            return answer.status, await answer.text(errors="replace")


EVENTS = Kind("Event", "", "v1", "events")

_METHODS = {"list": "GET", "get": "GET", "patch": "PATCH", "create": "POST"}


def _said(text: str) -> str:
    """Return the sentence of an API server's refusal."""
    try:
        document = json.loads(text)
    except ValueError:
        return text.strip()[:300]
    return str(document.get("message", "")) if isinstance(document, dict) else ""
