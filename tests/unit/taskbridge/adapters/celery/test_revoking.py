"""What an app's broadcasts do before Celery's workers are told; no broker."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from celery import Celery
from celery.app.control import Control

from taskbridge.adapters.celery.countdowns import CountdownMessage, noting_countdowns
from taskbridge.adapters.celery.revoking import BridgedControl, RevokeListener, install_revoking, task_ids

cancelled: list[list[str]] = []


def cancel(_: Any, ids: Sequence[str]) -> None:
    cancelled.append(list(ids))


class OwnControl(Control):
    """An application's own control class, whose broadcasts go nowhere."""

    said: list[tuple[Any, ...]] = []  # noqa: RUF012 - shared on purpose

    def broadcast(
        self, command: str, arguments: Any = None, destination: Any = None, *_: Any, **options: Any
    ) -> list[Any]:
        self.said.append((command, arguments, destination, options))
        return [{"celery@one": "ok"}]


@pytest.fixture(autouse=True)
def _forget() -> None:
    cancelled.clear()
    OwnControl.said.clear()


@pytest.fixture(params=["before", "after"])
def app(request: pytest.FixtureRequest) -> Celery:
    app = Celery("revoking", control=OwnControl, set_as_current=False)
    held = app.control if request.param == "after" else None
    install_revoking(app, cancel)
    install_revoking(app, cancel)
    assert held is None or held is app.control
    return app


def test_what_is_revoked_is_cancelled_and_the_workers_are_told(app: Celery) -> None:
    assert app.control.revoke("a", terminate=True) == [{"celery@one": "ok"}]
    app.control.revoke(["b", "c"])
    app.AsyncResult("d").revoke()

    assert cancelled == [["a"], ["b", "c"], ["d"]]
    assert [said[0] for said in OwnControl.said] == ["revoke"] * 3
    assert OwnControl.said[0][1] == {"task_id": "a", "terminate": True, "signal": "SIGTERM"}
    assert isinstance(app.control, OwnControl)


def test_other_commands_and_those_for_certain_workers_cancel_nothing(app: Celery) -> None:
    app.control.broadcast("rate_limit", {"task_name": "a", "rate_limit": "1/s"})
    app.control.revoke("a", destination=["celery@one"])
    app.control.broadcast("revoke", {"task_id": "a"}, pattern="celery@*", matcher="glob")

    assert cancelled == []
    assert len(OwnControl.said) == 3


def test_an_app_that_is_pickled_takes_it_along(app: Celery) -> None:
    copy = pickle.loads(pickle.dumps(app))  # noqa: S301 - our own
    assert isinstance(copy.control_cls, BridgedControl)
    copy.control.revoke("a")
    assert cancelled == [["a"]]


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [({"task_id": "a"}, ["a"]), ({"task_id": ("a", "b")}, ["a", "b"]), ({"task_id": [1, "b"]}, ["b"]), ({}, [])],
)
def test_ids_of_a_command(arguments: dict[str, Any], ids: list[str]) -> None:
    assert task_ids(arguments) == ids


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"method": "revoke", "arguments": {"task_id": ["a"]}, "destination": None}, [["a"]]),
        ({"method": "terminate", "arguments": {"task_id": "a"}}, [["a"]]),
        ({"method": "revoke", "arguments": {"task_id": "a"}, "destination": ["celery@one"]}, []),
        ({"method": "revoke", "arguments": None}, []),
        ({"method": "ping", "arguments": {}}, []),
        ("nonsense", []),
    ],
)
def test_what_a_listener_makes_of_a_broadcast(body: Any, ids: list[list[str]]) -> None:
    RevokeListener(Celery("listening", set_as_current=False), cancel, "relay@here")._received(body, None)
    assert cancelled == ids


@pytest.mark.parametrize(("arguments", "relative"), [((5,), True), ((None, "eta"), False), ((), False)])
def test_a_countdown_is_told_from_an_eta(arguments: tuple[Any, ...], relative: bool) -> None:
    made = ({"id": "a"}, {}, ((), {}, {}), None)
    message = noting_countdowns(lambda *_: made)("a", "task", (), {}, *arguments)
    assert isinstance(message, CountdownMessage) == relative
    assert tuple(message) == made
