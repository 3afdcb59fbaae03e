"""The client of the bridge's HTTP API, against a server that answers as docs/reference/http-api.md says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lagscaler.bridge.client import BridgeClient, BridgeUnreachableError, Move, Outlook, RequestRefusedError, Standing
from lagscaler.settings import BridgeSettings

FLAG = {"stage": "live", "percent": 10.0, "epoch": 7, "hold": True}
CUTOVER = {"service": "orders", **FLAG, "changed_at": "2026-01-02T03:04:05+00:00", "fenced": False, "tasks": [{}, {}]}
OUTCOME = {
    "service": "orders", "task": "", "action": "move", "before": FLAG, "after": FLAG, "created": {}, "changed": True,
    "repeated": False, "cleared_tasks": [], "rollback": "taskbridge cutover orders off",
}  # fmt: skip
CONDITIONS = [
    {"name": "verdict", "ok": False, "sentence": "40 more clean pairs", "overridable": True},
    {"name": "step", "ok": True, "sentence": "one rung", "overridable": False},
]


class Server:
    """Answers each request with what it was given, and remembers what was asked."""

    def __init__(self) -> None:
        self.answer: web.Response | Any = {}
        self.status = 200
        self.asked: list[tuple[str, str, str, Any]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path_qs, request.headers["Authorization"], body))
        if isinstance(self.answer, str):
            return web.Response(status=self.status, text=self.answer)
        return web.json_response(self.answer, status=self.status)


def talk(tmp_path: Path, say: Callable[[BridgeClient, Server], Awaitable[None]]) -> Server:
    """Return a server after a conversation."""

    async def whole() -> Server:
        server = Server()
        runner = web.ServerRunner(web.Server(server.handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (tmp_path / "token").write_text("secret\n")
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/bridge/api"
        try:
            async with BridgeClient(BridgeSettings("main", url, tmp_path / "token")) as client:
                await say(client, server)
        finally:
            await runner.cleanup()
        return server

    return asyncio.run(whole())


def test_how_services_stand_and_who_moved_them(tmp_path: Path) -> None:
    async def say(client: BridgeClient, server: Server) -> None:
        server.answer = {"cutovers": [CUTOVER]}
        assert await client.standings() == {
            "orders": Standing("orders", "live", 10.0, 7, True, "2026-01-02T03:04:05+00:00", False, 2)
        }
        row = {
            "who": "bob", "why": "friday", "at": "2026-01-02T03:04:05+00:00", "before": {**FLAG, "epoch": 6},
            "after": FLAG, "task": "",
        }  # fmt: skip
        others = [{**row, "task": "shop.place", "who": "eve"}, {**row, "before": FLAG, "who": "moved nothing"}]
        server.answer = {"transitions": [*others, row], "next": None}
        assert await client.last_move("orders") == Move("bob", "friday", "2026-01-02T03:04:05+00:00", 7)
        server.answer = {"transitions": [], "next": None}
        assert await client.last_move("or/ders") is None

    assert talk(tmp_path, say).asked == [
        ("GET", "/bridge/api/cutovers", "Bearer secret", None),
        ("GET", "/bridge/api/cutovers/orders/audit?limit=50", "Bearer secret", None),
        ("GET", "/bridge/api/cutovers/or%2Fders/audit?limit=50", "Bearer secret", None),
    ]


def test_a_transition_and_what_the_next_would_take(tmp_path: Path) -> None:
    async def say(client: BridgeClient, server: Server) -> None:
        server.answer = {**OUTCOME, "dry_run": False, "overridden": CONDITIONS[:1]}
        done = await client.transition("orders", {"stage": "live", "percent": 10})
        assert (done.after.stage, done.after.percent, done.after.hold, done.after.epoch) == ("live", 10, True, 7)
        assert (done.changed, done.repeated, done.rollback) == (True, False, "taskbridge cutover orders off")
        assert done.overridden == ("verdict",)
        verdict = {"state": "INSUFFICIENT", "sentence": "40 more", "figures": {}}
        server.answer = {**OUTCOME, "dry_run": True, "allowed": False, "conditions": CONDITIONS, "verdict": verdict}
        assert await client.outlook("orders", "live", 25) == Outlook(
            allowed=False, missing=("verdict: 40 more clean pairs",), verdict="INSUFFICIENT", sentence="40 more"
        )
        server.answer |= {"verdict": None, "allowed": True, "conditions": []}
        assert (await client.outlook("orders", "mirror", None)).verdict is None

    server = talk(tmp_path, say)
    place = "/bridge/api/cutovers/orders/transition"
    assert [one[:2] + one[3:] for one in server.asked] == [
        ("POST", place, {"stage": "live", "percent": 10}),
        ("POST", place, {"stage": "live", "percent": 25, "dry_run": True}),
        ("POST", place, {"stage": "mirror", "percent": None, "dry_run": True}),
    ]


def problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": f"urn:taskbridge:problem:{status}", "title": "t", "status": status, "detail": detail, **more}


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_what_is_refused_stays_refused(tmp_path: Path, status: int) -> None:
    async def say(client: BridgeClient, server: Server) -> None:
        server.status, server.answer = status, problem(status, "no", conditions=CONDITIONS)
        with pytest.raises(RequestRefusedError, match="no") as refused:
            await client.transition("orders", {})
        assert (refused.value.status, refused.value.missing) == (status, ("verdict: 40 more clean pairs",))

    talk(tmp_path, say)


@pytest.mark.parametrize(
    ("status", "answer", "reason", "words"),
    [
        (401, problem(401, "send a valid token"), "TokenRefused", "does not accept the token in"),
        (403, problem(403, "may only read"), "TokenRefused", "may only read"),
        (404, problem(404, "the API is not switched on"), "NotFound", "the API is not switched on"),
        (503, problem(503, "the database does not answer"), "BridgeUnavailable", "the database does not answer"),
        (500, "<html>", "NoBridge", "answers with HTTP 500 and not as the bridge's API does"),
        (404, "<html>", "NoBridge", "answers with HTTP 404"),
        (302, "", "NoBridge", "answers with HTTP 302"),
        (200, "hello", "NoBridge", "check the URL of bridge main"),
        (422, [], "NoBridge", "answers with HTTP 422"),
    ],
)
def test_what_may_succeed_later_is_told_apart(
    tmp_path: Path, status: int, answer: Any, reason: str, words: str
) -> None:
    async def say(client: BridgeClient, server: Server) -> None:
        server.status, server.answer = status, answer
        with pytest.raises(BridgeUnreachableError) as failed:
            await client.standings()
        assert failed.value.reason == reason
        assert words in str(failed.value)

    talk(tmp_path, say)


def test_a_rotated_token_is_used_and_a_missing_one_is_told(tmp_path: Path) -> None:
    async def say(client: BridgeClient, server: Server) -> None:
        server.answer = {"cutovers": []}
        await client.standings()
        (tmp_path / "token").write_text("another")
        await client.standings()
        (tmp_path / "token").unlink()
        with pytest.raises(BridgeUnreachableError, match="cannot be read from") as failed:
            await client.standings()
        assert failed.value.reason == "TokenMissing"
        (tmp_path / "token").write_text("two\nlines")
        with pytest.raises(BridgeUnreachableError, match="it must be one line"):
            await client.standings()

    assert [one[2] for one in talk(tmp_path, say).asked] == ["Bearer secret", "Bearer another"]


def test_nobody_there(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")

    async def whole() -> None:
        async with BridgeClient(BridgeSettings("main", "http://127.0.0.1:1/api", tmp_path / "token")) as client:
            with pytest.raises(BridgeUnreachableError, match="does not answer at http://127") as failed:
                await client.standings()
            assert failed.value.reason == "BridgeUnreachable"
        missing = BridgeSettings("main", "https://127.0.0.1:1/api", tmp_path / "token", tmp_path / "ca.crt")
        async with BridgeClient(missing) as client:
            with pytest.raises(BridgeUnreachableError, match="certificates of the bridge main cannot be read"):
                await client.standings()

    asyncio.run(whole())


SHAPES: list[tuple[str, Any]] = [
    ("standings", {"status": "ok"}),
    ("standings", {"cutovers": {}}),
    ("standings", {"cutovers": ["orders"]}),
    ("standings", {"cutovers": [{**CUTOVER, "epoch": "x"}]}),
    ("standings", {"cutovers": [{**CUTOVER, "tasks": 5}]}),
    ("last_move", {"transitions": [{"task": "", "who": "bob"}]}),
    ("last_move", {"transitions": [{"task": "", "who": "bob", "why": "", "at": "", "after": FLAG}]}),
    ("last_move", {"transitions": None}),
    ("transition", {"ok": True}),
    ("transition", {**OUTCOME, "after": None}),
    ("transition", {**OUTCOME, "overridden": ["verdict"]}),
    ("outlook", {**OUTCOME, "allowed": True, "verdict": ["READY"]}),
    ("outlook", {**OUTCOME, "allowed": False, "conditions": [1]}),
]


@pytest.mark.parametrize(("method", "answer"), SHAPES)
def test_an_answer_of_another_form_is_no_answer(tmp_path: Path, method: str, answer: Any) -> None:
    async def say(client: BridgeClient, server: Server) -> None:
        server.answer = answer
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "standings": client.standings,
            "last_move": lambda: client.last_move("orders"),
            "transition": lambda: client.transition("orders", {}),
            "outlook": lambda: client.outlook("orders", "mirror", None),
        }
        with pytest.raises(BridgeUnreachableError, match="the bridge main answers in another form: ") as failed:
            await calls[method]()
        assert failed.value.reason == "NoBridge"

    talk(tmp_path, say)


def test_a_refusal_of_another_form_is_no_refusal(tmp_path: Path) -> None:
    async def say(client: BridgeClient, server: Server) -> None:
        server.status, server.answer = 422, problem(422, "no", conditions=["verdict"])
        with pytest.raises(BridgeUnreachableError, match="answers in another form"):
            await client.transition("orders", {})

    talk(tmp_path, say)
