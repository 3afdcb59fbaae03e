"""
Requests to the HTTP API of a bridge: how services stand, who moved them, and transitions.

The API is described in docs/reference/http-api.md. Its token is read from its file at every request, so that a
rotated one is used at once.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from lagscaler.settings import BridgeSettings

TIMEOUT = 30.0
"""Seconds for one request: a transition asks Kafka and Celery before it answers."""


class BridgeError(Exception):
    """The bridge did not do what was asked; the sentence says why, and what to do."""


class BridgeUnreachableError(BridgeError):
    """
    It does not answer, or not as a bridge, or does not know the caller: the same request may succeed later.

    `reason` is one word for a condition.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class RequestRefusedError(BridgeError):
    """It understood and refuses; `missing` has the conditions that are not met, each a sentence."""

    def __init__(self, status: int, sentence: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Standing:
    """How one service stands."""

    service: str
    stage: str
    percent: float
    epoch: int
    hold: bool
    changed_at: str | None
    fenced: bool
    tasks: int
    """Tasks that have a stage of their own."""


@dataclass(frozen=True, slots=True)
class Move:
    """The newest transition of a service."""

    who: str
    why: str
    at: str
    epoch: int
    """The epoch that it led to."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transition led."""

    stage: str
    percent: float
    hold: bool
    epoch: int


@dataclass(frozen=True, slots=True)
class Done:
    """A transition that was carried out."""

    after: Place
    changed: bool
    repeated: bool
    rollback: str | None
    overridden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a step would take."""

    allowed: bool
    missing: tuple[str, ...]
    verdict: str | None
    """READY, NOT_READY or INSUFFICIENT; None where there is none."""
    sentence: str


class BridgeClient:
    """One bridge. Every request raises BridgeUnreachableError; transitions RequestRefusedError besides."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def standings(self) -> dict[str, Standing]:
        """Return how every service stands."""
        found = await self._request("GET", "/cutovers")
        with self._reading():
            return {one["service"]: _standing(one) for one in _list(found, "cutovers")}

    async def last_move(self, service: str) -> Move | None:
        """
        Return who moved a service last, None when nobody ever did.

        Left out are moves of single tasks, and what changed nothing, such as a request to go where it was.
        """
        found = await self._request("GET", f"/cutovers/{quote(service, safe='')}/audit?limit=50")
        with self._reading():
            for row in _list(found, "transitions"):
                if not row["task"] and row["before"]["epoch"] != row["after"]["epoch"]:
                    return Move(row["who"], row["why"], row["at"], int(row["after"]["epoch"]))
        return None

    async def transition(self, service: str, body: Mapping[str, Any]) -> Done:
        """Carry a transition out; one with a `request_id` is carried out once, however often it is sent."""
        found = await self._request("POST", f"/cutovers/{quote(service, safe='')}/transition", body)
        with self._reading():
            after = found["after"]
            return Done(
                after=Place(after["stage"], float(after["percent"]), bool(after["hold"]), int(after["epoch"])),
                changed=bool(found["changed"]),
                repeated=bool(found["repeated"]),
                rollback=found.get("rollback"),
                overridden=tuple(one["name"] for one in found.get("overridden") or ()),
            )

    async def outlook(self, service: str, stage: str, percent: float | None) -> Outlook:
        """Return what a step would take, changing nothing."""
        body = {"stage": stage, "percent": percent, "dry_run": True}
        found = await self._request("POST", f"/cutovers/{quote(service, safe='')}/transition", body)
        with self._reading():
            verdict = found.get("verdict") or {}
            return Outlook(
                allowed=bool(found["allowed"]),
                missing=_missing(found),
                verdict=verdict.get("state"),
                sentence=verdict.get("sentence", ""),
            )

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        session = self._session
        if session is None:
            raise BridgeUnreachableError("BridgeUnreachable", "the connection to the bridge is not open")
        name = self._settings.name
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        try:
            async with session.request(
                method, self._settings.url + path, json=body, headers=headers, ssl=self._trust(), allow_redirects=False
            ) as answer:
                status, content = answer.status, await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise BridgeUnreachableError(
                "BridgeUnreachable", f"the bridge {name} does not answer at {self._settings.url}: {_said(error)}"
            ) from error
        document = _document(content)
        if status == 200 and document is not None:
            return document
        with self._reading():
            problem = self._problem(status, document or {})
        raise problem

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Take an answer that is not as the API has it for none: what was asked may have been done, or not."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BridgeUnreachableError(
                "NoBridge", f"the bridge {self._settings.name} answers in another form: {type(error).__name__} {error}"
            ) from error

    def _token(self) -> str:
        path = self._settings.token_file
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BridgeUnreachableError(
                "TokenMissing", f"the token of the bridge {self._settings.name} cannot be read from {path}"
            ) from error
        if not token.isprintable():
            raise BridgeUnreachableError("TokenMissing", f"{path} holds no token: it must be one line")
        return token

    def _trust(self) -> ssl.SSLContext | bool:
        """Return whom to trust; made anew at each request, as certificates are rotated."""
        path = self._settings.ca_file
        if path is None or not self._settings.url.startswith("https:"):
            return True
        try:
            return ssl.create_default_context(cafile=path)
        except OSError as error:
            raise BridgeUnreachableError(
                "BridgeUnreachable", f"the certificates of the bridge {self._settings.name} cannot be read from {path}"
            ) from error

    def _problem(self, status: int, document: Mapping[str, Any]) -> BridgeError:
        name, url = self._settings.name, self._settings.url
        detail = str(document.get("detail", ""))
        match status:
            case 401 | 403:
                sentence = (
                    f"the bridge {name} does not accept the token in {self._settings.token_file}: {detail or status}"
                )
                return BridgeUnreachableError("TokenRefused", sentence)
            case 400 | 409 | 413 | 415 | 422 if detail:
                return RequestRefusedError(status, detail, _missing(document))
            case 404 if detail:
                return BridgeUnreachableError("NotFound", f"the bridge {name} says: {detail}")
            case _ if detail:
                return BridgeUnreachableError("BridgeUnavailable", f"the bridge {name} says: {detail}")
        return BridgeUnreachableError(
            "NoBridge",
            f"{url} answers with HTTP {status} and not as the bridge's API does; check the URL of bridge {name}",
        )


def _said(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    return str(error) or "no answer in time"


def _standing(found: Mapping[str, Any]) -> Standing:
    return Standing(
        service=found["service"],
        stage=found["stage"],
        percent=float(found["percent"]),
        epoch=int(found["epoch"]),
        hold=bool(found["hold"]),
        changed_at=found.get("changed_at"),
        fenced=bool(found.get("fenced", False)),
        tasks=len(found.get("tasks") or ()),
    )


def _list(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = document[name]
    if not isinstance(found, list):
        raise TypeError(f"{name} is no list")
    return found


def _missing(document: Mapping[str, Any]) -> tuple[str, ...]:
    conditions = _list(document, "conditions") if "conditions" in document else []
    return tuple(f"{one['name']}: {one['sentence']}" for one in conditions if not one.get("ok"))


def _document(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
