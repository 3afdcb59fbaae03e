"""The page on lag against the code."""

from __future__ import annotations

import re
from pathlib import Path

from lagscaler.kafka import brokers, groupview, logs, sampler
from lagscaler.policy.model import Gap

PAGE = (Path(__file__).resolve().parents[4] / "docs/discussions/lag.md").read_text()
NUMBERS = {3.0: "three", 8.0: "eight", 10: "ten", 100: "hundred", 20: "twenty"}


def test_every_gap_is_explained() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == [
        Gap.UNREACHABLE, Gap.AUTHENTICATION, Gap.DENIED_TOPIC, Gap.DENIED_GROUP, Gap.NO_TOPIC, Gap.NO_LEADER, Gap.OTHER,
    ]  # fmt: skip
    assert len(Gap) == 7


def test_limits_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"{NUMBERS[groupview.ROUNDS]} times in a poll" in text
    assert logs.ROUNDS == groupview.ROUNDS
    assert f"{NUMBERS[sampler.LOTS]} of them at once" in text
    assert f"after {NUMBERS[sampler.TIMEOUT]} seconds with what it has" in text
    assert f"one question to one broker after {NUMBERS[brokers.ATTEMPT]}" in text
    assert f"for a {NUMBERS[groupview.BATCH]} groups" in text
    assert f"get them {NUMBERS[groupview.SINGLES]} at a time" in text
