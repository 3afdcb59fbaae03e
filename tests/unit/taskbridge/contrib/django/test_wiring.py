"""Installing the bridge, and what is said when something does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, current_app

from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.contrib.django import wiring
from taskbridge.cutover import Stage
from taskbridge.exceptions import ConfigurationError
from taskbridge.testing import FakeFlags

TASKBRIDGE = {"prefix": "shop", "services": {"orders": {"tasks": ["orders.*"]}}}


@pytest.fixture
def app() -> Iterator[Any]:
    app = Celery("wired", broker="memory://", set_as_current=False)
    yield app
    wiring._bridges.pop(app, None)
    app.close()


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Django's settings, an environment and a store as a sound project has them."""
    project = SimpleNamespace(TASKBRIDGE=TASKBRIDGE)
    monkeypatch.setattr(wiring, "django_settings", project)
    monkeypatch.setattr(wiring, "DjangoStore", lambda *_: FakeFlags())
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return project


def test_install_reads_no_settings_and_may_be_called_again(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "django_settings", None)
    wiring.install(app)
    before = app.amqp_cls
    wiring.install(app)
    assert app.amqp_cls is before
    assert wiring.is_installed(app)


def test_one_bridge_per_app_also_through_a_proxy(app: Any, project: SimpleNamespace) -> None:
    wiring.install(app)
    bridge = wiring.bridge_of(app)
    assert wiring.bridge_of(app) is bridge
    assert bridge.settings.prefix == "shop"
    app.set_current()
    assert wiring.bridge_of(current_app) is bridge
    assert wiring.dispatcher_of(app) is bridge.dispatcher
    assert bridge.flags.get("orders").stage is Stage.OFF
    bridge.close()


def test_an_app_without_the_bridge_is_told_how_to_get_it(app: Any, project: SimpleNamespace) -> None:
    with pytest.raises(ConfigurationError, match=r"not installed in the Celery app 'wired': call taskbridge\.install"):
        wiring.bridge_of(app)


def _no_taskbridge(project: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    del project.TASKBRIDGE


def _no_brokers(project: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")


def _no_such_floor(project: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    project.TASKBRIDGE = {"services": {"orders": {"tasks": ["orders.*"], "floor": "cellar"}}}


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (_no_taskbridge, "Django's settings have no TASKBRIDGE"),
        (_no_brokers, "KAFKA_BOOTSTRAP_SERVERS is not set"),
        (_no_such_floor, "there is no stage 'cellar'"),
    ],
)
def test_what_is_missing_is_named_at_the_first_dispatch(
    app: Any, project: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, break_it: Any, sentence: str
) -> None:
    wiring.install(app)
    break_it(project, monkeypatch)
    with pytest.raises(ConfigurationError, match=sentence):
        app.send_task("orders.place")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (TaskOptions(service="fraud"), "task other.work declares the service 'fraud', but TASKBRIDGE names: orders"),
        (TaskOptions(key="customer"), "task other.work declares the key 'customer', but its arguments are: order"),
        ("orders", "task other.work: bridge= takes taskbridge.TaskOptions, not str"),
    ],
)
def test_options_that_do_not_fit_are_named_by_any_first_dispatch(
    app: Any, project: SimpleNamespace, options: Any, sentence: str
) -> None:
    @app.task(name="other.work", shared=False, bridge=options)
    def work(order: str) -> None:
        return None

    wiring.install(app)
    with pytest.raises(ConfigurationError, match=sentence):
        app.send_task("orders.place")


@pytest.mark.parametrize(
    ("place", "name", "value", "sentence"),
    [
        ("celery", "__version__", "5.3.6", r"needs Celery 5\.4 or later, and this is 5\.3"),
        ("celery", "__version__", "5.8.0rc1", r"supports Celery below 5\.8, and this is 5\.8: upgrade taskbridge"),
        ("celery", "__version__", "6.0.0", r"supports Celery below 5\.8, and this is 6\.0"),
        ("django", "VERSION", (3, 2, 25, "final", 0), r"needs Django 4\.2 or later, and this is 3\.2"),
        ("sys", "version_info", (3, 10, 9), r"needs Python 3\.11 or later, and this is 3\.10"),
    ],
)
def test_other_versions_are_refused(
    app: Any, monkeypatch: pytest.MonkeyPatch, place: str, name: str, value: object, sentence: str
) -> None:
    monkeypatch.setattr(wiring, place, SimpleNamespace(**{**vars(getattr(wiring, place)), name: value}))
    with pytest.raises(ConfigurationError, match=sentence):
        wiring.install(app)
    assert not wiring.is_installed(app)
