"""Events: told once, counted when repeated, and never in the way."""

from __future__ import annotations

import asyncio
from typing import Any

from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.events import AGAIN, Notice, Recorder
from lagscaler.kubernetes.kinds import CONSUMERS
from lagscaler.resources.reading import Key

ORDERS = Key("shop", "orders")
HELD = Notice("Normal", "ScaleHeld", "the hour's rebalances are used up")


class Api:
    """Takes events, unless it is broken."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[str, dict[str, Any]]] = []
        self.broken = False

    async def create_event(self, namespace: str, event: dict[str, Any]) -> dict[str, Any]:
        if self.broken:
            raise KubernetesError(0, "away")
        assert namespace == event["metadata"]["namespace"]
        self.created.append(event)
        return event

    async def patch_event(self, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        if self.broken:
            raise KubernetesError(404, "gone")
        self.patched.append((name, patch))
        return patch


def recorder(now: list[float]) -> tuple[Api, Recorder]:
    api = Api()
    return api, Recorder(api, lambda: now[0])


def tell(one: Recorder, *notices: Notice, uid: str = "u1") -> None:
    async def whole() -> None:
        for notice in notices:
            await one.tell(CONSUMERS, ORDERS, uid, notice)

    asyncio.run(whole())


def test_an_event_is_about_the_resource_and_names_who_says_it() -> None:
    api, one = recorder([1_800_000_000.0])
    tell(one, HELD)
    (event,) = api.created
    assert event["metadata"]["name"].startswith("orders.")
    assert event["involvedObject"] == {
        "apiVersion": "taskbridge.dev/v1alpha1", "kind": "KafkaConsumer", "namespace": "shop", "name": "orders",
        "uid": "u1",
    }  # fmt: skip
    assert (event["type"], event["reason"], event["message"]) == ("Normal", HELD.reason, HELD.message)
    assert event["source"] == {"component": "lagscaler"}
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2027-01-15T08:00:00Z"


def test_the_same_again_is_counted_and_another_is_not() -> None:
    now = [1_000.0]
    api, one = recorder(now)
    tell(one, HELD, HELD)
    tell(one, Notice("Normal", "ScaleHeld", "another sentence"))
    tell(one, HELD, uid="u2")
    now[0] += AGAIN / 2
    tell(one, HELD)
    assert len(api.created) == 3
    assert len({event["metadata"]["name"] for event in api.created}) == 3
    name = api.created[0]["metadata"]["name"]
    assert [(about, patch["count"]) for about, patch in api.patched] == [(name, 2), (name, 3)]
    now[0] += 2 * AGAIN
    tell(one, HELD)
    assert len(api.created) == 4


def test_what_cannot_be_told_is_dropped_and_tried_anew() -> None:
    api, one = recorder([1_000.0])
    tell(one, HELD)
    api.broken = True
    tell(one, HELD)
    api.broken = False
    tell(one, HELD)
    assert len(api.created) == 2


def test_a_sentence_that_is_too_long_is_cut() -> None:
    api, one = recorder([1_000.0])
    tell(one, Notice("Warning", "MetricsStale", "x" * 3_000))
    assert len(api.created[0]["message"]) == 1_000
    assert api.created[0]["message"].endswith("…")
