"""A Celery app in memory with a dispatcher among doubles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu.transport.memory import Transport

from taskbridge.adapters.celery.hook import install_hook
from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher
from taskbridge.observation import DispatchRow
from taskbridge.settings import ServiceSettings
from taskbridge.testing import FakeFlags, FakePending, FakePublisher, RecordingObserver, settings


class Bridged:
    """An app named `app`, its broker's queues, and what the dispatcher did."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.flags = FakeFlags()
        self.confirmed, self.best_effort = FakePublisher(), FakePublisher()
        self.pending, self.observer = FakePending(), RecordingObserver()
        services = (
            ServiceSettings("orders", tasks=("orders.*",), keys={"orders.*": "order"}),
            ServiceSettings("mails", queues=("mails",)),
        )
        self.dispatcher = Dispatcher(
            settings(*services),
            FlagCache(self.flags, {"orders": Stage.OFF, "mails": Stage.OFF}, time.monotonic, max_age=0.0),
            self.confirmed,
            self.best_effort,
            self.pending,
            self.observer,
        )

    def install(self) -> None:
        install_hook(self.app, lambda _: self.dispatcher)

    def move(self, stage: Stage, *services: str, basis_points: int = 10_000) -> None:
        for service in services or ("orders", "mails"):
            self.flags.set(service, stage, basis_points if stage is Stage.LIVE else 0)

    def broker(self, queue: str = "celery") -> list[dict[str, Any]]:
        """Take what waits in one of the broker's queues."""
        messages = []
        with self.app.connection_for_read() as connection:
            channel = connection.default_channel
            while channel.queues.get(queue) is not None and channel._size(queue):
                messages.append(channel._get(queue))
        return messages

    @property
    def rows(self) -> list[DispatchRow]:
        return [row for row in self.observer.rows if isinstance(row, DispatchRow)]


def make_app() -> Any:
    """Return a fresh app with tasks and a memory broker of its own."""
    app = Celery(f"app-{uuid4().hex[:8]}", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="orders.place", shared=False)
    def place(order: object, amount: int = 0) -> object:
        return order

    @app.task(name="orders.retry", bind=True, shared=False, max_retries=3)
    def again(self: Any, order: object) -> None:
        raise self.retry(countdown=0)

    @app.task(name="other.work", shared=False)
    def work(*args: object) -> None:
        return None

    return app


@pytest.fixture
def app() -> Iterator[Any]:
    app = make_app()
    yield app
    app.close()
    Transport.global_state.clear()
    Transport.Channel.queues.clear()


@pytest.fixture
def bridged(app: Any) -> Bridged:
    bridged = Bridged(app)
    bridged.install()
    return bridged
