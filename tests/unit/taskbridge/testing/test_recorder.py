"""What projects use in tests of their own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain

import taskbridge
from taskbridge.adapters.celery.hook import install_hook
from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.dispatch import Dispatcher
from taskbridge.exceptions import ConfigurationError, TransitionRefused
from taskbridge.settings import ServiceSettings, Settings
from taskbridge.testing import recorded
from taskbridge.testing import settings as settings_for


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    def connect(*_: Any, **__: Any) -> None:
        raise AssertionError("a test of this kind reaches no server")

    monkeypatch.setattr(socket.socket, "connect", connect)
    app = Celery("mine", broker="redis://localhost:1", backend="redis://localhost:1", set_as_current=False)

    @app.task(name="orders.place", shared=False, bridge=TaskOptions(key="order"))
    def place(order: str, amount: int = 1) -> None: ...

    @app.task(name="mail.send", shared=False)
    def send(to: str) -> None: ...

    app.conf.task_always_eager = True
    install_hook(app, _never)
    yield app
    app.close()


def _never(_: Any) -> Dispatcher:
    raise AssertionError("the real dispatcher is not made")


@pytest.fixture
def settings() -> Settings:
    return settings_for(ServiceSettings("orders", tasks=("orders.*",)), ServiceSettings("mail", tasks=("mail.*",)))


def test_each_stage_shows_its_road(app: Any, settings: Settings) -> None:
    with recorded(app, {"orders": "live", "mail": "mirror"}, settings) as dispatched:
        sent = app.tasks["orders.place"].delay("o-1", amount=2).id
        app.tasks["mail.send"].delay("a@example.org")
        app.send_task("elsewhere.work", (1,))
    placed, mailed, other = dispatched
    assert (placed.task, placed.task_id, placed.args, placed.kwargs) == ("orders.place", sent, ("o-1",), {"amount": 2})
    assert (placed.road, placed.service, placed.key, placed.copied) == ("kafka", "orders", "o-1", False)
    assert (mailed.road, mailed.service, mailed.key, mailed.copied) == ("celery", "mail", mailed.task_id, True)
    assert (other.road, other.service, other.key, other.args) == ("celery", "", "", (1,))


def test_what_waits_and_what_falls_back(app: Any, settings: Settings) -> None:
    with recorded(app, {"orders": "live"}, settings) as dispatched:
        app.tasks["orders.place"].apply_async(("o-1",), countdown=60)
        app.tasks["orders.place"].apply_async(("o-1",), priority=5)
        chain(app.tasks["orders.place"].si("o-1"), app.tasks["mail.send"].si("x"), app=app).apply_async()
    assert [(one.road, one.due is not None, one.fallback) for one in dispatched] == [
        ("delayed", True, ""),
        ("celery", False, "unsupported:priority"),
        ("kafka", False, ""),
    ]


@pytest.mark.parametrize(("publish", "road"), [("barrier", "kafka"), ("outbox", "outbox"), ("confirm", "kafka")])
def test_publish_modes(app: Any, publish: Any, road: str) -> None:
    settings = settings_for(ServiceSettings("orders", tasks=("orders.*",), publish=publish))
    with recorded(app, {"orders": "complete"}, settings) as dispatched, taskbridge.barrier():
        app.tasks["orders.place"].delay("o-1")
    assert [one.road for one in dispatched] == [road]


def test_a_percentage_moves_some_keys(app: Any, settings: Settings) -> None:
    with recorded(app, {"orders": "live 50%"}, settings) as dispatched:
        for number in range(60):
            app.tasks["orders.place"].delay(f"o-{number}")
    assert {one.road for one in dispatched} == {"kafka", "celery"}


def test_protocol_1(app: Any, settings: Settings) -> None:
    app.conf.task_protocol = 1
    with recorded(app, {"orders": "live"}, settings) as dispatched:
        sent = app.send_task("orders.place", ("o-1",)).id
    assert [(one.task_id, one.args, one.road) for one in dispatched] == [(sent, ("o-1",), "kafka")]


def test_afterwards_all_is_as_before(app: Any, settings: Settings) -> None:
    with recorded(app, {"orders": "live"}, settings):
        pass
    assert app.conf.task_always_eager is True
    assert app.tasks["orders.place"].delay("o-1").get() is None
    assert "on_task_call" not in app.backend.__dict__
    app.conf.task_always_eager = False
    with pytest.raises(AssertionError, match="real dispatcher"):
        app.send_task("orders.place", ("o-1",), ignore_result=True)


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ({"order": "live"}, "there is no service 'order'"),
        ({"orders": "alive"}, "there is no stage 'alive'"),
        ({"orders": "live many"}, "write the percentage as in"),
        ({"orders": "mirror 5%"}, "a percentage belongs to shadow and live"),
    ],
)
def test_what_does_not_fit(app: Any, settings: Settings, stages: dict[str, str], sentence: str) -> None:
    with pytest.raises((ConfigurationError, TransitionRefused), match=sentence), recorded(app, stages, settings):
        pytest.fail("it did not begin")


def test_without_the_bridge_there_is_nothing_to_record(settings: Settings) -> None:
    app = Celery("plain", broker="memory://", set_as_current=False)
    with pytest.raises(ConfigurationError, match="is not installed in the Celery app 'plain'"), recorded(app):
        pytest.fail("it did not begin")
