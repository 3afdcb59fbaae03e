from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from taskbridge.checks import Line, Status
from taskbridge.contrib.django.preflight import floor_lines
from taskbridge.contrib.django.store import FlagState
from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import ConfigurationError, StoreUnavailable
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings


def store(*flags: Flag, error: Exception | None = None) -> Any:
    def states() -> dict[str, FlagState]:
        if error is not None:
            raise error
        return {flag.service: FlagState(flag, datetime.now(UTC)) for flag in flags}

    return SimpleNamespace(flag_states=states)


def looked_at(floor: str, *flags: Flag) -> Line:
    [line] = floor_lines(store(*flags), settings(ServiceSettings("orders", tasks=("a",), floor=floor)), ["orders"])
    return line


@pytest.mark.parametrize(
    ("floor", "stage", "expected"),
    [
        ("off", Stage.OFF, Status.OK),
        ("off", Stage.MIRROR, Status.OK),
        ("off", Stage.LIVE, Status.OK),
        ("off", Stage.COMPLETE, Status.WARN),
        ("live", Stage.COMPLETE, Status.WARN),
        ("complete", Stage.COMPLETE, Status.OK),
        ("complete", Stage.LIVE, Status.WARN),
        ("complete", Stage.OFF, Status.WARN),
    ],
)
def test_a_floor_goes_with_its_stage_or_not(floor: str, stage: Stage, expected: Status) -> None:
    line = looked_at(floor, Flag("orders", stage, 1_000 if stage is Stage.LIVE else 0))
    assert (line.subject, line.status, bool(line.remedy)) == ("floor of orders", expected, expected is Status.WARN)


def test_a_complete_service_would_go_back_to_celery() -> None:
    line = looked_at("off", Flag("orders", Stage.COMPLETE))
    assert line.detail == (
        "off; the service is complete: after 10 s without the database messages are sent as in off,"
        " and Celery's workers may be gone"
    )
    assert line.remedy == 'set "floor": "complete" for orders, and restart what dispatches'


def test_a_service_that_went_back_would_return_to_kafka() -> None:
    line = looked_at("complete", Flag("orders", Stage.LIVE, 1_000))
    assert line.detail == (
        "complete; the service is live 10%: after 10 s without the database all its messages go to Kafka"
    )
    assert line.remedy == 'set "floor": "off" for orders, and restart what dispatches'


def test_a_service_that_was_never_moved() -> None:
    assert looked_at("off").status is Status.OK
    line = looked_at("complete", Flag("fraud", Stage.COMPLETE))
    assert line.status is Status.WARN
    assert line.detail == "complete; the service was never moved: until it is all its messages go to Kafka"


def test_a_database_that_does_not_answer_has_lines_of_its_own() -> None:
    orders = settings(ServiceSettings("orders", tasks=("a",)))
    assert list(floor_lines(store(error=StoreUnavailable("away")), orders, ["orders"])) == []
    [line] = floor_lines(store(error=ConfigurationError("service 'orders' is in stage 'x'")), orders, ["orders"])
    assert (line.status, line.detail) == (Status.WARN, "service 'orders' is in stage 'x'")
