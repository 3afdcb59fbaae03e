from __future__ import annotations

import pytest

from taskbridge.contrib.django.moves import way_back
from taskbridge.cutover import Flag, Stage

OFF, MIRROR, COMPLETE = (Flag("orders", stage) for stage in (Stage.OFF, Stage.MIRROR, Stage.COMPLETE))


def live(percent: float, task: str = "") -> Flag:
    return Flag("orders", Stage.LIVE, round(percent * 100), task=task)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (OFF, MIRROR, "cutover orders off"),
        (MIRROR, live(1), "cutover orders mirror"),
        (live(12.5), live(100), "cutover orders live --percent 12.5"),
        (live(100), COMPLETE, "cutover orders live --percent 100"),
        # Forward again is as far as one step leads.
        (live(50), OFF, "cutover orders mirror"),
        (live(50), MIRROR, "cutover orders live --percent 1"),
        (live(50), live(5), "cutover orders live --percent 25"),
        (live(10), live(5), "cutover orders live --percent 10"),
        (COMPLETE, live(100), "cutover orders complete"),
        (COMPLETE, MIRROR, "cutover orders shadow --percent 1"),
        (Flag("orders", Stage.OFF), Flag("orders", Stage.OFF, hold=True), "release orders"),
        (live(1, "a.b"), Flag("orders", Stage.OFF, task="a.b"), "cutover orders mirror --task a.b"),
        (Flag("orders", Stage.MIRROR, task="a.b", cleared=True), live(1, "a.b"), "cutover orders clear --task a.b"),
    ],
)
def test_the_way_back(before: Flag, after: Flag, expected: str) -> None:
    assert way_back(before, after) == f"taskbridge {expected}"
