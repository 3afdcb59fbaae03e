"""Whether a service may go further, judged by the comparison of what was observed lately."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from taskbridge.adapters.kafka.observations import KafkaObservationLog
from taskbridge.comparison import Fold, Question, build
from taskbridge.exceptions import TaskbridgeError
from taskbridge.ports import Assessment, ObservationLog
from taskbridge.settings import Settings

WINDOW = 3600.0
"""Seconds back from now that are looked at."""

PATIENCE = 5.0
"""Seconds of Kafka's silence after which nothing is known."""


class ComparisonReadiness:
    """
    A Readiness that reads the observations of the last hour.

    What differs is NOT_READY. That nothing differed is not yet evidence enough to call a service READY, which takes a
    bound on the rate of mismatches that were not seen; so everything else is INSUFFICIENT, with what is known.
    """

    def __init__(
        self, settings: Settings, log: ObservationLog | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` returns seconds since the epoch."""
        self._settings = settings
        self._log = log or KafkaObservationLog(settings, timeout=PATIENCE)
        self._clock = clock

    def assess(self, service: str, task: str = "") -> Assessment:
        """Return the verdict on a service, or on one task of it; what cannot be asked is INSUFFICIENT."""
        until = self._clock()
        fold = Fold(service, task or None)
        try:
            for batch in self._log.read(service, until - WINDOW):
                fold.add(batch)
        except TaskbridgeError as error:
            return Assessment("INSUFFICIENT", f"INSUFFICIENT: nothing is known of the last hour: {error}")
        (found,) = build([fold], Question(until, until - WINDOW), {})["services"]
        figures = _figures(found)
        if found["verdict"] == "DISAGREE":
            return Assessment("NOT_READY", f"NOT_READY: in the last hour, {_lower(found['sentence'])}", figures)
        if found["verdict"] != "AGREE":
            return Assessment("INSUFFICIENT", found["sentence"].rstrip("."), figures)
        return Assessment(
            "INSUFFICIENT",
            f"INSUFFICIENT: in the last hour {figures['agree']:,} dispatch{'es' * (figures['agree'] != 1)} of "
            f"{task or service} agree and none differ; how much that proves is not computed yet",
            figures,
        )


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    mirrored, executed = found["mirrored"]["classes"], found["executed"]["classes"]
    return {
        "window": WINDOW,
        "comparison": found["verdict"],
        "dispatched": found["dispatched"],
        "agree": mirrored["MATCH"] + mirrored["REDELIVERED"] + executed["EXECUTED"] + executed["REPEATED"],
        "mirrored": {name: count for name, count in mirrored.items() if count},
        "executed": {name: count for name, count in executed.items() if count},
    }


def _lower(sentence: str) -> str:
    """Return a report's sentence without its verdict and full stop."""
    return sentence.partition(": ")[2].rstrip(".")
