from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from taskbridge.comparison.durations import quantiles


def test_quantiles_are_durations_that_occurred() -> None:
    assert quantiles(array("d", [0.01 * n for n in range(100, 0, -1)])) == {
        "n": 100,
        "p50": 0.5,
        "p95": 0.95,
        "p99": 0.99,
        "max": 1.0,
    }


def test_one_duration_is_every_quantile() -> None:
    assert quantiles(array("d", [0.25])) == {"n": 1, "p50": 0.25, "p95": 0.25, "p99": 0.25, "max": 0.25}


def test_no_durations_have_no_quantiles() -> None:
    assert quantiles(array("d")) is None


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_quantiles_are_ordered(seconds: list[float]) -> None:
    found = quantiles(array("d", seconds))
    assert found is not None
    assert found["p50"] <= found["p95"] <= found["p99"] <= found["max"]
