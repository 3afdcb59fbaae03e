"""Stages, decisions and the flag cache."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbridge.cutover import (
    BASIS_POINTS,
    Decision,
    Fence,
    Flag,
    FlagCache,
    Stage,
    check_step,
    decide,
    is_forward,
    next_steps,
    target,
)
from taskbridge.exceptions import TransitionRefused
from taskbridge.routing import bucket
from taskbridge.testing import FakeFlags


def live(percent: float) -> Flag:
    return Flag("orders", Stage.LIVE, round(percent * 100))


@given(st.text(), st.integers(1, BASIS_POINTS), st.integers(1, BASIS_POINTS))
def test_a_higher_percentage_only_adds_keys(key: str, one: int, other: int) -> None:
    low, high = sorted((one, other))
    number = bucket("taskbridge", key)

    if decide(Flag("orders", Stage.LIVE, low), number).kafka:
        assert decide(Flag("orders", Stage.LIVE, high), number).kafka


@pytest.mark.parametrize(
    ("flag", "number", "expected"),
    [
        (Flag("orders", Stage.OFF), 0, Decision(kafka=False, copy=False)),
        (Flag("orders", Stage.MIRROR), 0, Decision(kafka=False, copy=True)),
        (Flag("orders", Stage.MIRROR), 9_999, Decision(kafka=False, copy=True)),
        (live(0.01), 0, Decision(kafka=True, copy=False)),
        (live(0.01), 1, Decision(kafka=False, copy=False)),
        (live(100), 9_999, Decision(kafka=True, copy=False)),
    ],
)
def test_where_a_message_goes(flag: Flag, number: int, expected: Decision) -> None:
    assert decide(flag, number) == expected


def test_a_stage_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(TransitionRefused, match="no stage 'on'; stages are off, mirror, shadow, live, complete"):
        Stage.parse("on")


@pytest.mark.parametrize(("percent", "expected"), [(0.01, 1), (10, 1_000), (12.5, 1_250), (100, 10_000)])
def test_percentages_become_basis_points(percent: float, expected: int) -> None:
    assert target(Stage.LIVE, percent) == expected


@pytest.mark.parametrize("percent", [0, -1, 0.001, 100.01, float("nan"), float("inf")])
def test_what_is_no_percentage_is_refused(percent: float) -> None:
    with pytest.raises(TransitionRefused, match=r"is not a percentage between 0\.01 and 100"):
        target(Stage.LIVE, percent)


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.MIRROR, Stage.COMPLETE])
def test_a_percentage_belongs_to_shadow_and_live(stage: Stage) -> None:
    assert target(stage, None) == 0
    with pytest.raises(TransitionRefused, match="belongs to shadow and live"):
        target(stage, 50)
    with pytest.raises(TransitionRefused, match="live needs --percent"):
        target(Stage.LIVE, None)


def at(stage: Stage, basis_points: int = 0) -> Flag:
    return Flag("orders", stage, basis_points)


@pytest.mark.parametrize(
    ("before", "stage", "basis_points"),
    [
        (at(Stage.OFF), Stage.MIRROR, 0),
        (at(Stage.MIRROR), Stage.SHADOW, 100),
        (at(Stage.MIRROR), Stage.LIVE, 100),
        (at(Stage.SHADOW, 100), Stage.SHADOW, 500),
        (at(Stage.SHADOW, 100), Stage.LIVE, 1),
        (at(Stage.LIVE, 100), Stage.LIVE, 300),
        (at(Stage.LIVE, 300), Stage.LIVE, 500),
        (at(Stage.LIVE, 5_000), Stage.LIVE, 10_000),
        (at(Stage.LIVE, 10_000), Stage.COMPLETE, 0),
    ],
)
def test_forward_goes_one_stage_or_one_rung(before: Flag, stage: Stage, basis_points: int) -> None:
    check_step(before, stage, basis_points)


@pytest.mark.parametrize(
    ("before", "stage", "basis_points"),
    [
        (at(Stage.MIRROR), Stage.LIVE, 101),
        (at(Stage.MIRROR), Stage.SHADOW, 500),
        (at(Stage.SHADOW, 100), Stage.SHADOW, 501),
        (at(Stage.LIVE, 300), Stage.LIVE, 501),
        (at(Stage.LIVE, 100), Stage.LIVE, 10_000),
    ],
)
def test_more_than_a_rung_needs_an_override(before: Flag, stage: Stage, basis_points: int) -> None:
    with pytest.raises(TransitionRefused, match="--override with a --reason"):
        check_step(before, stage, basis_points)
    check_step(before, stage, basis_points, override=True)


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize(
    ("before", "stage", "basis_points"),
    [
        (at(Stage.OFF), Stage.SHADOW, 100),
        (at(Stage.OFF), Stage.LIVE, 100),
        (at(Stage.OFF), Stage.COMPLETE, 0),
        (at(Stage.MIRROR), Stage.COMPLETE, 0),
        (at(Stage.SHADOW, 10_000), Stage.COMPLETE, 0),
        (at(Stage.LIVE, 9_999), Stage.COMPLETE, 0),
    ],
)
def test_nothing_lifts_mirror_before_live_and_live_in_full_before_complete(
    before: Flag, stage: Stage, basis_points: int, override: bool
) -> None:
    with pytest.raises(TransitionRefused, match=r"orders is .* and cannot go to .* at once: next is"):
        check_step(before, stage, basis_points, override=override)


@given(st.sampled_from(Stage), st.integers(0, 10_000), st.sampled_from(Stage), st.integers(0, 10_000))
def test_back_is_always_allowed(here: Stage, points: int, there: Stage, less: int) -> None:
    before = at(here, points)
    if not is_forward(before, there, less):
        check_step(before, there, less)


@given(st.sampled_from(Stage), st.integers(1, 10_000))
def test_every_step_that_is_offered_is_allowed_and_forward(here: Stage, points: int) -> None:
    before = at(here, points)
    for stage, basis_points in next_steps(before):
        assert is_forward(before, stage, basis_points)
        check_step(before, stage, basis_points)


def test_a_fence_survives_its_document() -> None:
    for fence in (Fence(0, 5_000, frozenset({"celery"})), Fence(1, 2, frozenset({"celery", "kafka"}), {0: 7, 11: 0})):
        assert Fence.from_document(json.loads(json.dumps(fence.document()))) == fence


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Flag("orders", Stage.OFF), Flag("orders", Stage.MIRROR), True),
        (Flag("orders", Stage.MIRROR), live(1), True),
        (live(1), live(2), True),
        (live(2), live(1), False),
        (live(1), live(1), False),
        (live(1), Flag("orders", Stage.MIRROR), False),
        (Flag("orders", Stage.MIRROR), Flag("orders", Stage.OFF), False),
    ],
)
def test_forward_is_what_gives_kafka_more(before: Flag, after: Flag, expected: bool) -> None:
    assert is_forward(before, after.stage, after.basis_points) is expected


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> FakeFlags:
    return FakeFlags()


@pytest.fixture
def cache(store: FakeFlags, clock: Clock) -> FlagCache:
    return FlagCache(store, {"orders": Stage.OFF, "done": Stage.LIVE}, clock, max_age=1.0, stale_after=10.0)


def test_a_flag_is_looked_up_at_most_once_a_second(cache: FlagCache, store: FakeFlags, clock: Clock) -> None:
    store.set("orders", Stage.MIRROR)
    assert cache.get("orders").stage is Stage.MIRROR

    store.set("orders", Stage.OFF)
    clock.now += 0.9
    assert cache.get("orders").stage is Stage.MIRROR
    assert store.reads == 1

    clock.now += 0.1
    assert cache.get("orders").stage is Stage.OFF
    assert store.reads == 2


def test_a_service_that_was_never_moved_is_at_its_floor(cache: FlagCache) -> None:
    assert cache.get("orders") == Flag("orders", Stage.OFF)
    assert cache.get("done") == Flag("done", Stage.LIVE, BASIS_POINTS)


def test_the_last_flags_hold_while_the_store_is_away_and_then_the_floor_does(
    cache: FlagCache, store: FakeFlags, clock: Clock
) -> None:
    store.set("orders", Stage.MIRROR)
    cache.get("orders")
    store.available = False

    clock.now += 10.0
    assert cache.get("orders").stage is Stage.MIRROR
    clock.now += 0.1
    assert cache.get("orders").stage is Stage.OFF
    assert cache.failures == 1

    store.available = True
    clock.now += 1.0
    assert cache.get("orders").stage is Stage.MIRROR


def test_a_store_that_never_answered_means_the_floor(cache: FlagCache, store: FakeFlags) -> None:
    store.set("orders", Stage.LIVE, BASIS_POINTS)
    store.available = False

    assert cache.get("orders").stage is Stage.OFF
