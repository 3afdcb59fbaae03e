"""The HTTP API: every answer is as its description says, and nothing is done twice or by the wrong caller."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.contrib.django import moves
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.exceptions import ConfigurationError, StoreUnavailable
from taskbridge.settings import Settings

pytestmark = pytest.mark.services

MAPPING = {
    "services": {
        "orders": {"tasks": ["shop.orders.*"], "partitions": 1},
        "fraud": {"tasks": ["shop.fraud.*"], "partitions": 1},
    }
}
OPERATOR, VIEWER = "o" * 40, "v" * 40
PLACE = "shop.orders.place"


def task() -> None:
    """A task."""


class Api:
    """The API as its clients see it, and checked at each answer against its own description."""

    def __init__(self, bridge: Any, tokens: Path) -> None:
        from taskbridge.contrib.django.api.openapi import DOCUMENT

        self.bridge = bridge
        self.tokens = tokens
        self.description = _strict(copy.deepcopy(DOCUMENT))

    def get(self, path: str, token: str | None = VIEWER, **headers: str) -> tuple[int, Any]:
        return self.call("get", path, token, None, **headers)

    def post(self, body: Any, token: str | None = OPERATOR, service: str = "orders", **headers: str) -> tuple[int, Any]:
        return self.call("post", f"/cutovers/{service}/transition", token, body, **headers)

    def call(self, method: str, path: str, token: str | None, body: Any, **headers: str) -> tuple[int, Any]:
        from django.test import RequestFactory
        from django.urls.resolvers import RegexPattern, URLResolver

        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        options: dict[str, Any] = {"headers": headers}
        if body is not None:
            options |= {"data": body if isinstance(body, bytes) else json.dumps(body)}
            options |= {"content_type": headers.pop("Type", "application/json")}
        request = getattr(RequestFactory(), method)(f"/bridge/api{path}", **options)
        mounted = URLResolver(RegexPattern(r"^/"), "taskbridge.contrib.django.api.urls")
        found = mounted.resolve(path.partition("?")[0])
        response = found.func(request, *found.args, **found.kwargs)
        assert response["Cache-Control"] == "no-store"
        assert not response.cookies
        document = json.loads(response.content)
        self.check(method, path.partition("?")[0], response, document)
        return response.status_code, document

    def check(self, method: str, path: str, response: Any, document: Any) -> None:
        kind = response["Content-Type"]
        known = "/cutovers/{service}" if path.count("/") == 2 else path
        if path.count("/") == 3:
            known = "/cutovers/{service}/" + path.rpartition("/")[2]
        operation = self.description["paths"].get(known, {}).get(method)
        if operation is None:
            assert response.status_code in {401, 404, 405}
            schema: Any = {"$ref": "#/components/schemas/Problem"}
        else:
            schema = operation["responses"][str(response.status_code)]["content"][kind]["schema"]
        Draft202012Validator(
            {**schema, "components": self.description["components"]},
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        ).validate(document)
        if response.status_code >= 400:
            assert kind == "application/problem+json"
            assert document["status"] == response.status_code


def _strict(description: Any) -> Any:
    """Allow no member that is not described: what is not described cannot be relied on."""
    if isinstance(description, dict):
        for value in description.values():
            _strict(value)
        if description.get("type") == "object" and "properties" in description:
            description["additionalProperties"] = False
    elif isinstance(description, list):
        for value in description:
            _strict(value)
    return description


@pytest.fixture
def store(alias: str) -> Iterator[DjangoStore]:
    store = DjangoStore(alias)
    yield store
    store.sessions.close()


@pytest.fixture
def api(
    store: DjangoStore, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Api]:
    from taskbridge.contrib.django.api import views

    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "operator").write_text(f"{OPERATOR}\n")
    (tokens / "grafana.read").write_text(VIEWER)
    mapping = {"prefix": topic_prefix, "api_tokens": str(tokens)} | MAPPING
    with closing(Celery("project", broker="memory://", set_as_current=False)) as app:
        app.task(name=PLACE, shared=False)(task)
        settings = Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap})
        bridge = SimpleNamespace(app=app, settings=settings, store=store, addressing=Addressing(app, settings))
        monkeypatch.setattr(views, "site_bridge", lambda: bridge)
        yield Api(bridge, tokens)


def test_the_description_is_valid_openapi(api: Api) -> None:
    status, document = api.get("/openapi.json")
    assert status == 200
    validate(document)


def test_a_service_moves_and_everybody_can_see_it(api: Api) -> None:
    status, done = api.post({"stage": "mirror", "reason": "to compare"})

    assert (status, done["changed"], done["after"]["stage"], done["after"]["epoch"]) == (200, True, "mirror", 1)
    assert [topic["state"] for topic in done["created"]["topics"]] == ["created"] * 4
    assert done["rollback"] == "taskbridge cutover orders off"
    status, found = api.get("/cutovers")
    assert status == 200
    assert [(one["service"], one["stage"], one["changed_at"] is None) for one in found["cutovers"]] == [
        ("fraud", "off", True),
        ("orders", "mirror", False),
    ]
    assert api.get("/cutovers/orders")[1] == found["cutovers"][1]
    (row,) = api.get("/cutovers/orders/audit")[1]["transitions"]
    assert (row["who"], row["why"], row["action"]) == ("api:operator", "to compare", "move")
    assert api.get("/cutovers/fraud/audit")[1] == {"transitions": [], "next": None}


def test_every_action(api: Api) -> None:
    override = {"override": True, "reason": "a test"}
    for body, stage, hold in (
        ({"stage": "mirror"}, "mirror", False),
        ({"action": "hold"}, "mirror", True),
        ({"action": "release"}, "mirror", False),
        ({"action": "move", "stage": "live", "percent": 2.5, **override}, "live", False),
        ({"action": "kill"}, "off", False),
    ):
        status, done = api.post(body)
        assert (status, done["after"]["stage"], done["after"]["hold"]) == (200, stage, hold), body
    api.post({"stage": "mirror", "task": PLACE})
    (flag,) = api.get("/cutovers/orders")[1]["tasks"]
    assert (flag["task"], flag["stage"], flag["epoch"]) == (PLACE, "mirror", 1)
    status, done = api.post({"action": "clear", "task": PLACE})
    assert (status, done["after"]["cleared"]) == (200, True)
    status, done = api.post({"action": "kill"})
    assert (status, done["changed"]) == (200, False)


def test_what_is_refused_comes_with_every_condition(api: Api) -> None:
    api.post({"stage": "mirror"})
    status, problem = api.post({"stage": "live", "percent": 10})

    assert status == 422
    assert problem["detail"].startswith("orders cannot go to live 10%: next is shadow 1% or live 1%; INSUFFICIENT: ")
    assert {one["name"] for one in problem["conditions"] if not one["ok"]} == {"step", "verdict", "members"}
    assert api.post({"stage": "live", "percent": 0})[0] == 422
    assert api.post({"stage": "sideways"})[0] == 422
    assert api.post({})[1]["detail"] == "a move needs a stage to go to"
    assert api.post({"stage": "mirror", "override": True})[1]["detail"].startswith("an override needs a reason")

    status, shown = api.post({"stage": "live", "percent": 10, "dry_run": True})
    assert (status, shown["allowed"], shown["changed"]) == (200, False, False)
    assert shown["conditions"] == problem["conditions"]
    assert api.get("/cutovers/orders")[1]["epoch"] == 1


def test_an_overtaken_request_is_a_conflict(api: Api) -> None:
    api.post({"stage": "mirror"})
    status, problem = api.post({"stage": "off", "expected_epoch": 0})
    assert (status, problem["title"]) == (409, "Overtaken")
    assert api.post({"stage": "off", "expected_epoch": 1})[0] == 200


def test_a_request_id_is_carried_out_once(api: Api) -> None:
    body = {"stage": "mirror", "request_id": "7c0f/3", "requested_by": "system:serviceaccount:shop:operator"}
    first = api.post(body)[1]
    api.post({"action": "kill", "reason": "enough"})

    status, again = api.post(body)

    assert (status, again["repeated"], again["changed"]) == (200, True, False)
    assert again["after"] == first["after"]
    assert api.get("/cutovers/orders")[1]["stage"] == "off"
    assert api.post({"action": "hold", "request_id": "7c0f/3"})[0] == 409
    rows = api.get("/cutovers/orders/audit")[1]["transitions"]
    assert rows[1]["who"] == "api:operator for system:serviceaccount:shop:operator"
    assert rows[1]["request_id"] == "7c0f/3"


def test_the_caller_can_say_for_whom_in_a_header(api: Api) -> None:
    api.post({"stage": "mirror"}, **{"X-Requested-By": "ada"})
    assert api.get("/cutovers/orders/audit")[1]["transitions"][0]["who"] == "api:operator for ada"
    assert api.post({"stage": "off"}, **{"X-Requested-By": "a" * 201})[0] == 400


def test_the_audit_goes_on_page_by_page(api: Api) -> None:
    for stage in ("mirror", "off", "mirror"):
        api.post({"stage": stage})
    first = api.get("/cutovers/orders/audit?limit=2")[1]
    second = api.get(f"/cutovers/orders/audit?limit=2&before={first['next']}")[1]
    assert [row["after"]["epoch"] for row in first["transitions"] + second["transitions"]] == [3, 2, 1]
    assert second["next"] is None
    at = first["transitions"][0]["at"].replace("+00:00", "Z")
    assert len(api.get(f"/cutovers/orders/audit?since={at}")[1]["transitions"]) == 1
    for query in ("limit=0", "limit=x", "limit=501", "since=soon", "before=-1", "colour=red"):
        assert api.get(f"/cutovers/orders/audit?{query}")[0] == 400, query


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 413, "larger than 65,536 bytes"),
        (b'{"reason": "' + b"x" * 70_000 + b'"}', 413, "larger than 65,536 bytes"),
        (b"[" * 50_000, 400, "not JSON"),
        ([], 400, "must be a JSON object"),
        ({"stages": "mirror"}, 400, "there is no field 'stages'; known: action, stage"),
        ({"stage": 1}, 400, "stage must be of type string"),
        ({"stage": "live", "percent": True}, 400, "percent must be of type number"),
        ({"stage": "live", "percent": "1"}, 400, "percent must be of type number"),
        ({"stage": "mirror", "override": 1}, 400, "override must be of type boolean"),
        ({"action": "promote"}, 400, "action must be one of move, kill, hold, release, clear, not 'promote'"),
        ({"action": "kill", "percent": 5}, 400, "percent goes with a stage"),
        ({"stage": "mirror", "reason": "x" * 2_001}, 400, "reason must be a text of at most 2,000 characters"),
        ({"stage": "mirror", "reason": "a\0b"}, 400, "reason must be a text"),
        ({"stage": "mirror", "reason": "\ud800"}, 400, "reason must be a text"),
        ({"stage": "off", "expected_epoch": -1}, 400, "expected_epoch must be an epoch"),
        ({"stage": "off", "expected_epoch": 10**30}, 400, "expected_epoch must be an epoch"),
        ({"stage": "live", "percent": float("nan")}, 422, "nan is not a percentage"),
    ],
)
def test_what_cannot_be_understood(api: Api, body: Any, status: int, words: str) -> None:
    found, problem = api.post(body)
    assert (found, words in problem["detail"]) == (status, True), problem
    assert api.get("/cutovers/orders")[1]["epoch"] == 0


def test_methods_types_and_places(api: Api) -> None:
    assert api.post({"stage": "mirror"}, Type="text/plain")[0] == 415
    assert api.call("get", "/cutovers/orders/transition", OPERATOR, None)[0] == 405
    assert api.call("post", "/cutovers", OPERATOR, {})[0] == 405
    assert api.call("delete", "/cutovers/orders", OPERATOR, None)[0] == 405
    assert api.get("/nowhere")[0] == 404
    assert api.get("/cutovers/nonsense")[1]["detail"] == (
        "there is no service 'nonsense'; TASKBRIDGE names: fraud, orders"
    )
    assert api.get("/cutovers/nonsense/audit")[0] == 404
    assert api.post({"stage": "mirror"}, service="nonsense")[0] == 404


def test_only_tokens_of_the_folder_open_it(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    for token in (None, "", "wrong", OPERATOR[:-1], OPERATOR + "x"):
        for status, problem in (api.get("/cutovers", token), api.get("/nowhere", token), api.post({}, token)):
            assert (status, problem["title"]) == (401, "No valid token")
    assert api.call("get", "/cutovers", None, None, Authorization=f"Basic {VIEWER}")[0] == 401

    status, problem = api.post({"stage": "mirror"}, VIEWER)
    assert (status, problem["detail"]) == (403, "the token of grafana may only read")
    assert api.get("/cutovers", VIEWER)[0] == 200
    # Whose token it is, and what it may do, follows the files at once.
    (api.tokens / "operator").rename(api.tokens / "operator.read")
    assert api.post({"stage": "mirror"})[0] == 403
    (api.tokens / "operator.read").write_text("n" * 40)
    assert api.get("/cutovers", OPERATOR)[0] == 401
    assert not any(token in caplog.text for token in (OPERATOR, VIEWER, "n" * 40))


def test_a_token_in_two_files_may_do_what_both_may(api: Api) -> None:
    (api.tokens / "admin").write_text(VIEWER)
    assert api.post({"stage": "mirror"}, VIEWER)[0] == 403


def test_short_hidden_and_unreadable_tokens(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    (api.tokens / "short").write_text("s" * 31)
    (api.tokens / ".hidden").write_text("h" * 40)
    (api.tokens / "folder").mkdir()
    with caplog.at_level(logging.WARNING):
        assert api.get("/cutovers", "s" * 31)[0] == 401
    assert "short has less than 32 characters" in caplog.text
    assert api.get("/cutovers", "h" * 40)[0] == 401
    assert api.get("/cutovers")[0] == 200


def test_a_mounted_kubernetes_secret(api: Api, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    for version, token in (("..2026_01", "a" * 40), ("..2026_02", "b" * 40)):
        (mount / version).mkdir(parents=True)
        (mount / version / "operator").write_text(token)
    (mount / "..data").symlink_to("..2026_01")
    (mount / "operator").symlink_to("..data/operator")
    api.bridge.settings = _with_tokens(api.bridge.settings, str(mount))
    assert api.get("/cutovers", "a" * 40)[0] == 200

    (mount / "..new").symlink_to("..2026_02")
    os.replace(mount / "..new", mount / "..data")

    assert api.get("/cutovers", "a" * 40)[0] == 401
    assert api.get("/cutovers", "b" * 40)[0] == 200


def _with_tokens(settings: Settings, folder: str) -> Settings:
    from dataclasses import replace

    return replace(settings, api_tokens=folder)


def test_without_a_folder_there_is_no_api(api: Api, tmp_path: Path) -> None:
    api.bridge.settings = _with_tokens(api.bridge.settings, "")
    assert api.get("/cutovers")[0] == 404
    api.bridge.settings = _with_tokens(api.bridge.settings, str(tmp_path / "gone"))
    status, problem = api.get("/cutovers")
    assert (status, problem["detail"]) == (500, "the API's tokens cannot be read; its log says why")


def test_servers_that_do_not_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "PATIENCE", 1.0)
    settings = api.bridge.settings
    mapping = {"prefix": settings.prefix, "api_tokens": settings.api_tokens} | MAPPING
    api.bridge.settings = Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    status, problem = api.post({"stage": "mirror"})
    assert (status, "Kafka at 127.0.0.1:1 did not answer" in problem["detail"]) == (503, True)
    assert api.post({"action": "kill"})[0] == 200

    def away(*_: object) -> Any:
        raise StoreUnavailable("database 'default' (PostgreSQL) cannot be used: it is away")

    monkeypatch.setattr(api.bridge.store, "sessions", SimpleNamespace(transaction=away))
    for status, problem in (api.get("/cutovers"), api.get("/cutovers/orders/audit"), api.post({"action": "kill"})):
        assert (status, "it is away" in problem["detail"]) == (503, True)


def test_errors_of_the_site_are_logged_and_not_shown(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from taskbridge.contrib.django.api import views

    def broken() -> Any:
        raise ConfigurationError("TASKBRIDGE has a secret mistake")

    monkeypatch.setattr(views, "survey", lambda *_: 1 / 0)
    status, problem = api.get("/cutovers")
    assert (status, problem["detail"]) == (500, "the bridge failed; its log says why")
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.setattr(views, "site_bridge", broken)
    status, problem = api.get("/cutovers", token=None)
    assert (status, problem["detail"]) == (500, "the bridge of this site cannot be used; the site's log says why")
    assert "a secret mistake" in caplog.text
