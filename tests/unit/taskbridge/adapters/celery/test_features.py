"""What keeps a task on Celery, task by task."""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker.request import Request
from kombu import Exchange, Queue
from kombu.common import Broadcast

from taskbridge.adapters.celery.features import tasks_of, unsupported
from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.exceptions import ConfigurationError
from taskbridge.scan import BEHAVIOURS, Level
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings

# Celery would have these set by task_routes, and still obeys them.
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*The '(priority|queue)' task attribute")


class OwnRequest(Request):  # type: ignore[misc]
    pass


def declare(app: Any, **options: Any) -> Any:
    @app.task(name="orders.declared", shared=False, **options)
    def declared() -> None:
        return None

    return declared


@pytest.mark.parametrize(
    ("options", "conf", "feature"),
    [
        ({"rate_limit": "10/m"}, {}, "rate_limit='10/m'"),
        ({}, {"task_default_rate_limit": "5/s"}, "rate_limit='5/s'"),
        (
            {},
            {"task_annotations": {"orders.*": {"x": 1}, "orders.declared": {"rate_limit": "1/h"}}},
            "rate_limit='1/h'",
        ),
        ({}, {"task_annotations": {"*": {"rate_limit": "2/h"}}}, "rate_limit='2/h'"),
        ({"priority": 3}, {}, "priority=3"),
        ({}, {"task_default_priority": 5}, "priority=5"),
        ({"serializer": "pickle"}, {}, "the pickle serializer"),
        ({}, {"task_serializer": "pickle"}, "the pickle serializer"),
        ({}, {"result_backend": "rpc://"}, "the rpc:// result backend"),
        ({"Request": OwnRequest}, {}, "a Request class of its own"),
        ({"Request": f"{__name__}:OwnRequest"}, {}, "a Request class of its own"),
        ({"queue": "all"}, {"task_queues": [Broadcast("all")]}, "the exchange all, which broadcasts"),
        (
            {},
            {
                "task_queues": [Queue("everyone", Exchange("everyone", type="fanout"))],
                "task_routes": {"orders.declared": {"queue": "everyone"}},
            },
            "the exchange everyone, which broadcasts",
        ),
    ],
)
def test_each_is_named_with_a_remedy(app: Any, options: dict[str, Any], conf: dict[str, Any], feature: str) -> None:
    app.conf.update(conf)
    declare(app, **options)
    [finding] = unsupported(app, ["orders.declared"])
    assert (finding.task, finding.feature) == ("orders.declared", feature)
    assert str(finding).startswith(f"orders.declared uses {feature}: ")
    assert len(finding.remedy) > 20
    assert BEHAVIOURS[finding.name].level is Level.STOPS


@pytest.mark.parametrize(
    ("options", "conf"),
    [
        ({"acks_late": True, "reject_on_worker_lost": True, "track_started": True}, {}),
        ({"time_limit": 9, "soft_time_limit": 5, "max_retries": 3, "autoretry_for": (KeyError,)}, {}),
        ({"rate_limit": "10/m"}, {"worker_disable_rate_limits": True}),
        ({"ignore_result": True}, {"result_backend": "rpc://"}),
        ({"priority": 0, "serializer": "json"}, {}),
    ],
)
def test_the_rest_is_fine(app: Any, options: dict[str, Any], conf: dict[str, Any]) -> None:
    app.conf.update(conf)
    declare(app, **options)
    assert unsupported(app, ["orders.declared"]) == []


def test_the_tasks_of_a_service(app: Any) -> None:
    @app.task(name="elsewhere.mine", shared=False, bridge=TaskOptions(service="mails"))
    def mine() -> None:
        return None

    @app.task(name="elsewhere.queued", shared=False, queue="letters")
    def queued() -> None:
        return None

    app.conf.task_routes = {"other.*": {"queue": "letters"}}
    services = settings(ServiceSettings("orders", tasks=("orders.*",)), ServiceSettings("mails", queues=("letters",)))
    assert tasks_of(app, services, "orders") == ["orders.place", "orders.retry"]
    assert tasks_of(app, services, "mails") == ["elsewhere.mine", "elsewhere.queued", "other.work"]


@pytest.mark.parametrize(
    "options", [{"service": "Not A Name"}, {"service": ""}, {"key": "not an argument"}, {"key": 3}]
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"TaskOptions\("):
        TaskOptions(**options)
