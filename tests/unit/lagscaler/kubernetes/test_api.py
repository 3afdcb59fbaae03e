"""Requests to the Kubernetes API, as a server sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from kubernetes_asyncio.config import ConfigException

from lagscaler.kubernetes.api import KubernetesApi, KubernetesError
from lagscaler.kubernetes.kinds import AUTOSCALERS, CONSUMERS, SCALED_OBJECTS, watched
from lagscaler.resources.reading import Key

ORDERS = Key("shop", "orders")


class Server:
    """Answers every request with what is next, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Any]] = []
        self.tokens: set[str] = set()
        self.answers: list[tuple[int, Any]] = []
        self.counted: list[tuple[str, str, int]] = []

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.tokens.add(request.headers.get("Authorization", ""))
        body = json.loads(text) if text else None
        self.asked.append((request.method, request.path_qs, request.content_type, body))
        status, answer = self.answers.pop(0)
        if isinstance(answer, bytes):
            return web.Response(body=answer, status=status, content_type="text/html", charset="utf-8")
        return web.json_response(answer, status=status)


def talk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[KubernetesApi, Server], Awaitable[None]]
) -> Server:
    """Return a server after a conversation."""

    async def whole() -> Server:
        server = Server()
        runner = web.ServerRunner(web.Server(server.handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
        }  # fmt: skip
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        monkeypatch.setattr(
            "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
        )
        try:
            async with KubernetesApi(lambda *what: server.counted.append(what)) as api:
                await say(api, server)
        finally:
            await runner.cleanup()
        return server

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return asyncio.run(whole())


def test_each_request_goes_where_the_api_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say(api: KubernetesApi, server: Server) -> None:
        server.answers = [(200, {"n": number}) for number in range(5)]
        assert await api.patch_status(CONSUMERS, ORDERS, "u1", {"lag": None, "at": {"n": 1}}) == {"n": 0}
        assert await api.patch_status(CONSUMERS, ORDERS, "u1", {"lag": 1}, first=True) == {"n": 1}
        assert await api.scale(ORDERS, 3) == {"n": 2}
        assert await api.create_event("shop", {"reason": "x"}) == {"n": 3}
        assert await api.patch_event("shop", "e1", {"count": 2}) == {"n": 4}

    server = talk(tmp_path, monkeypatch, say)
    ours = "/apis/taskbridge.dev/v1alpha1/namespaces/shop/kafkaconsumers/orders/status?fieldManager=lagscaler"
    apps = "/apis/apps/v1/namespaces/shop/deployments/orders"
    merge = "application/merge-patch+json"
    meant = {"op": "test", "path": "/metadata/uid", "value": "u1"}
    change = [
        {"op": "add", "path": "/status/lag", "value": None}, {"op": "remove", "path": "/status/lag"},
        {"op": "add", "path": "/status/at", "value": {"n": 1}},
    ]  # fmt: skip
    assert server.asked == [
        ("PATCH", ours, "application/json-patch+json", [meant, *change]),
        ("PATCH", ours, "application/json-patch+json", [meant, {"op": "add", "path": "/status", "value": {"lag": 1}}]),
        ("PATCH", f"{apps}/scale?fieldManager=lagscaler", merge, {"spec": {"replicas": 3}}),
        ("POST", "/api/v1/namespaces/shop/events", "application/json", {"reason": "x"}),
        ("PATCH", "/api/v1/namespaces/shop/events/e1", merge, {"count": 2}),
    ]
    assert server.tokens == {"Bearer secret"}
    assert server.counted == [
        ("patch", "kafkaconsumers/status", 200), ("patch", "kafkaconsumers/status", 200),
        ("patch", "deployments/scale", 200),
        ("create", "events", 200), ("patch", "events", 200),
    ]  # fmt: skip


def test_a_list_is_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say(api: KubernetesApi, server: Server) -> None:
        server.answers = [
            (200, {"metadata": {"continue": "more/of it"}, "items": [{"n": 1}]}),
            (200, {"metadata": {}, "items": [{"n": 2}]}),
            (200, {"items": None}),
        ]
        assert await api.every(AUTOSCALERS, None) == [{"n": 1}, {"n": 2}]
        assert await api.every(AUTOSCALERS, "shop") == []

    server = talk(tmp_path, monkeypatch, say)
    assert [path for _, path, _, _ in server.asked] == [
        "/apis/autoscaling/v2/horizontalpodautoscalers?limit=500",
        "/apis/autoscaling/v2/horizontalpodautoscalers?limit=500&continue=more/of+it",
        "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers?limit=500",
    ]


@pytest.mark.parametrize(
    ("status", "gone", "refused"),
    [(404, True, False), (409, False, False), (403, False, True), (422, False, True), (429, False, False),
     (500, False, False)],
)  # fmt: skip
def test_a_refusal_is_told_in_the_servers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, gone: bool, refused: bool
) -> None:
    async def say(api: KubernetesApi, server: Server) -> None:
        server.answers = [(status, {"message": "deployments is forbidden: no"})]
        with pytest.raises(KubernetesError, match="deployments is forbidden: no") as failed:
            await api.scale(ORDERS, 3)
        assert (failed.value.status, failed.value.gone, failed.value.refused) == (status, gone, refused)

    assert talk(tmp_path, monkeypatch, say).counted == [("patch", "deployments/scale", status)]


@pytest.mark.parametrize(
    ("there", "status"),
    [
        ((200, {"metadata": {"uid": "heir"}}), 404), ((404, {}), 404), ((200, {"metadata": {"uid": "u1"}}), 422),
        ((500, {}), 422),
    ],
    ids=["another", "none", "the same", "not known"],
)  # fmt: skip
def test_a_status_that_is_not_taken_was_meant_for_one_that_is_gone_or_may_not_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[int, Any], status: int
) -> None:
    async def say(api: KubernetesApi, server: Server) -> None:
        server.answers = [(422, {"message": "the server rejected our request"}), there]
        with pytest.raises(KubernetesError) as failed:
            await api.patch_status(CONSUMERS, ORDERS, "u1", {"lag": 1})
        assert (failed.value.status, failed.value.gone) == (status, status == 404)

    server = talk(tmp_path, monkeypatch, say)
    assert server.asked[1][:2] == ("GET", "/apis/taskbridge.dev/v1alpha1/namespaces/shop/kafkaconsumers/orders")
    assert server.counted[1] == ("get", "kafkaconsumers", there[0])


def test_no_answer_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say(api: KubernetesApi, server: Server) -> None:
        """Nothing: what counts is what comes after."""

    talk(tmp_path, monkeypatch, say)

    async def nobody() -> None:
        async with KubernetesApi(lambda *_: None) as api:
            with pytest.raises(KubernetesError, match="the Kubernetes API does not answer") as failed:
                await api.scale(ORDERS, 3)
            assert (failed.value.status, failed.value.gone) == (0, False)

    # The server of the conversation is gone by now, and its kubeconfig is not.
    asyncio.run(nobody())


@pytest.mark.parametrize(
    "answer",
    [b"<html>the proxy's own page</html>", b"\xff\xfe", b"", [], "a text"],
    ids=["page", "bytes", "", "[]", "text"],
)
def test_an_answer_of_another_form_is_an_error_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    async def say(api: KubernetesApi, server: Server) -> None:
        server.answers = [(200, answer)]
        with pytest.raises(KubernetesError, match="the Kubernetes API") as failed:
            await api.scale(ORDERS, 3)
        assert (failed.value.status, failed.value.gone, failed.value.refused) == (0, False, False)

    talk(tmp_path, monkeypatch, say)


def test_a_refusal_in_no_words_that_can_be_read_is_still_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say(api: KubernetesApi, server: Server) -> None:
        server.answers = [(403, b"\xff\xfe")]
        with pytest.raises(KubernetesError) as failed:
            await api.scale(ORDERS, 3)
        assert failed.value.refused

    talk(tmp_path, monkeypatch, say)


def test_a_token_that_cannot_be_read_any_more_is_an_error_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise ConfigException("the token's file is empty")

    async def say(api: KubernetesApi, server: Server) -> None:
        monkeypatch.setattr(api._client, "update_params_for_auth", away)
        with pytest.raises(KubernetesError, match="the token's file is empty") as failed:
            await api.scale(ORDERS, 3)
        assert failed.value.status == 0

    assert talk(tmp_path, monkeypatch, say).counted == [("patch", "deployments/scale", 0)]


def test_without_credentials_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))

    async def start() -> None:
        async with KubernetesApi(lambda *_: None):
            raise AssertionError("it must not start")

    with pytest.raises(KubernetesError, match="let KUBECONFIG name a kubeconfig"):
        asyncio.run(start())


def test_keda_is_looked_at_only_where_it_is_allowed() -> None:
    assert SCALED_OBJECTS not in watched(scaled_objects=False)
    assert SCALED_OBJECTS in watched(scaled_objects=True)
    assert SCALED_OBJECTS.path(None) == "/apis/keda.sh/v1alpha1/scaledobjects"
