from __future__ import annotations

from collections import Counter

import pytest

from taskbridge.scan.facts import Call, Parameter, Place, Task
from taskbridge.scan.keys import count_candidates, suggest_key

HERE = Place("x.py", 1)


def task(*arguments: str) -> Task:
    return Task(
        "shop.work", "shop.work", HERE, tuple(Parameter(name.rstrip("?"), "?" not in name) for name in arguments)
    )


def call(positional: int = 0, *keywords: str) -> Call:
    return Call("shop.work", "delay", HERE, positional=positional, keywords=frozenset(keywords))


@pytest.mark.parametrize(
    ("arguments", "argument", "confidence"),
    [
        (("order_id",), "order_id", "high"),
        (("pk",), "pk", "high"),
        (("name", "customer_uuid"), "customer_uuid", "high"),
        (("user_id?",), "user_id", "low"),
        (("user_id?", "order_id"), "order_id", "high"),
        (("failed_task_id", "order_id"), "order_id", "high"),
        (("content_type_id", "object_id"), "object_id", "high"),
        (("a_id", "b_id"), "a_id", "medium"),
        (("name", "identity"), None, None),
        (("task_id",), None, None),
        ((), None, None),
    ],
)
def test_what_a_name_suggests(arguments: tuple[str, ...], argument: str | None, confidence: str | None) -> None:
    key = suggest_key(task(*arguments), [], Counter())
    assert (key and key.argument, key and key.confidence) == (argument, confidence)


def test_an_argument_that_other_tasks_have_is_preferred() -> None:
    both = task("line_id", "order_id")
    siblings = count_candidates([both, task("order_id"), task("order_id", "x")])
    key = suggest_key(both, [], siblings)
    assert key is not None
    assert (key.argument, key.confidence) == ("order_id", "high")
    assert "which 3 tasks of the service have" in key.reason


@pytest.mark.parametrize(
    ("calls", "confidence", "words"),
    [
        ([call(1), call(0, "order_id")], "high", "passed at 2 of 2 places"),
        ([call(1), call(0, "other")], "medium", "passed at 1 of 2 places"),
        ([call(0, "other")], "low", "passed at 0 of 1 places"),
    ],
)
def test_places_that_pass_it_confirm_it(calls: list[Call], confidence: str, words: str) -> None:
    key = suggest_key(task("order_id"), calls, Counter())
    assert key is not None
    assert key.confidence == confidence
    assert words in key.reason
