"""KEDA's Kafka scaler and the autoscaler, held to what their sources and documentation say."""

from __future__ import annotations

import pytest

from benchmarks.autoscaling.keda import Autoscaler, KafkaScaler, divisors


@pytest.mark.parametrize(
    ("lags", "metric"),
    [
        ([0, 0, 0], 0),
        ([4, 0, 5], 9),
        ([10, 10, 10], 30),
        # Integer division: 39 // 10 is 3, no more than the partitions, so that the metric asks for a fourth replica.
        ([13, 13, 13], 39),
        ([14, 13, 13], 30),
        ([10_000, 0, 0], 30),
    ],
)
def test_the_lag_is_bounded_by_the_partitions(lags: list[int], metric: int) -> None:
    assert KafkaScaler(10).metric(lags) == metric


@pytest.mark.parametrize(
    ("lags", "metric"),
    [([500, 0, 0, 0], 10), ([500, 1, 0, 0], 20), ([5, 0, 0, 0], 5), ([0, 0, 0, 0], 0), ([500] * 4, 40)],
)
def test_the_lag_is_bounded_by_the_partitions_that_have_some(lags: list[int], metric: int) -> None:
    assert KafkaScaler(10, lagging_only=True).metric(lags) == metric


@pytest.mark.parametrize(
    ("total", "replicas"),
    # Ten partitions: 1, 2, 5 or 10 consumers have equally many each.
    [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 5), (50, 5), (51, 10), (100, 10), (5_000, 10)],
)
def test_partitions_are_shared_evenly(total: int, replicas: int) -> None:
    assert KafkaScaler(10, even=True).metric([total, *[0] * 9]) == replicas * 10


def test_divisors() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(1) == [1]


@pytest.mark.parametrize(
    ("replicas", "metric", "proposed"),
    [
        (1, 0, 0),
        (4, 400, 4),
        # Within a tenth of the target nothing changes: a group that is stuck just below its number of partitions.
        (22, 2400, 22),
        (21, 2400, 24),
        (10, 900, 10),
        (10, 899, 9),
        (10, 1101, 12),
        (3, 1, 1),
    ],
)
def test_the_average_value(replicas: int, metric: int, proposed: int) -> None:
    assert Autoscaler(100, replicas).proposal(replicas, metric) == proposed


def test_at_most_four_or_twice_as_many_in_fifteen_seconds() -> None:
    autoscaler = Autoscaler(10, 1)
    replicas = 1
    seen = []
    for now in range(0, 75, 15):
        replicas = autoscaler.desired(now, replicas, 100_000)
        seen.append(replicas)
    assert seen == [5, 10, 20, 40, 80]


def test_never_more_than_the_maximum() -> None:
    assert Autoscaler(10, 80).desired(0, 80, 100_000) == 100


def test_the_limit_holds_within_its_period() -> None:
    autoscaler = Autoscaler(10, 2)
    assert autoscaler.desired(0, 2, 1000) == 6
    assert autoscaler.desired(5, 6, 1000) == 6
    assert autoscaler.desired(15, 6, 1000) == 12


@pytest.mark.parametrize("stabilization", [300, 60])
def test_down_only_to_the_highest_of_the_window(stabilization: int) -> None:
    autoscaler = Autoscaler(10, 8, stabilization=stabilization)
    assert autoscaler.desired(0, 8, 80) == 8
    down = [now for now in range(15, 600, 15) if autoscaler.desired(now, 8, 20) < 8]
    assert down[0] == stabilization


def test_down_all_at_once() -> None:
    autoscaler = Autoscaler(10, 8, stabilization=30)
    assert [autoscaler.desired(now, 8, 0) for now in (0, 15, 30)] == [8, 1, 1]


def test_without_a_metric_nothing_changes() -> None:
    autoscaler = Autoscaler(10, 3)
    assert autoscaler.desired(0, 3, None) == 3
    assert autoscaler.desired(600, 3, None) == 3
    assert autoscaler.desired(615, 3, 10) == 1
