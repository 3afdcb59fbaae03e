"""What is read from the notes of real consumers; without Kafka."""

from __future__ import annotations

import pytest

from benchmarks.autoscaling.calibration import (
    FEW,
    FEWER,
    LOAD,
    MANY,
    MORE,
    PARTITIONS,
    RATE,
    SECONDS,
    Note,
    assess,
    predict,
)
from benchmarks.grounds import BenchmarkFailedError

BEGUN = 1000.0


def test_the_plant_falls_behind_and_catches_up() -> None:
    lags = predict(eager=False, rate=RATE, start=1.0, pause=3.0)
    assert len(lags) == SECONDS
    assert lags[MORE - 1] == pytest.approx(MORE * (LOAD - FEW * RATE))
    assert lags[FEWER - 1] == pytest.approx(0, abs=1)
    assert lags[-1] > 500


def test_an_eager_rebalance_costs_more() -> None:
    eager = predict(eager=True, rate=RATE, start=1.0, pause=4.0)
    assert max(eager[:FEWER]) > max(predict(eager=False, rate=RATE, start=1.0, pause=4.0)[:FEWER])


def notes(pause: float) -> list[Note]:
    """Everybody does its partitions evenly; those that change hands rest for `pause` seconds."""
    found = []
    for number in range(SECONDS * LOAD):
        at, partition = number / LOAD, number % PARTITIONS
        many = MORE <= at < FEWER
        owner = partition % (MANY if many else FEW)
        came = at - (MORE if many else FEWER)
        moved = partition % MANY != partition % FEW
        if not (moved and at >= MORE and 0 <= came < pause):
            found.append(Note(BEGUN + at, partition, owner))
    return found


def test_what_notes_say() -> None:
    found = assess("cooperative-sticky", notes(3.0), BEGUN, [BEGUN + MORE - 1.0] * (MANY - FEW))
    assert found.rate == pytest.approx(LOAD / FEW, rel=0.1)
    assert found.moved == pytest.approx(3.0, abs=0.2)
    assert found.stayed < 0.5
    assert found.start == pytest.approx(4.0, abs=0.2)
    assert len(found.measured) == SECONDS
    assert 0 < found.error < 5


def test_a_consumer_that_did_nothing_is_no_result() -> None:
    few = [note for note in notes(3.0) if note.consumer != MANY - 1]
    with pytest.raises(BenchmarkFailedError, match="did nothing"):
        assess("range", few, BEGUN, [BEGUN + MORE] * (MANY - FEW))


def test_without_a_handover_there_is_no_result() -> None:
    still = [Note(note.at, note.partition, note.partition % MANY) for note in notes(3.0)]
    with pytest.raises(BenchmarkFailedError, match="changed its owner"):
        assess("range", still, BEGUN, [BEGUN] * (MANY - FEW))
