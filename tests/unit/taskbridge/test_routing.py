"""Services, keys and buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbridge.routing import BUCKETS, Router, bucket, business_key
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings


@pytest.mark.parametrize(
    ("salt", "key", "expected"),
    [
        # Computed with sha256sum, not with this package: a change would move keys between the sides.
        ("taskbridge", "", 9496),
        ("taskbridge", "1", 6675),
        ("taskbridge", "order-42", 8034),
        ("taskbridge", "Zürich", 4993),
        ("taskbridge", "00000000-0000-0000-0000-000000000000", 7663),
        ("salt", "order-42", 8275),
    ],
)
def test_buckets_are_the_same_for_ever(salt: str, key: str, expected: int) -> None:
    assert bucket(salt, key) == expected


@given(st.text(), st.text())
def test_every_key_has_a_bucket(salt: str, key: str) -> None:
    assert 0 <= bucket(salt, key) < BUCKETS


def test_keys_spread_evenly() -> None:
    chosen = sum(bucket("taskbridge", str(number)) < 1_000 for number in range(20_000))

    assert chosen == pytest.approx(2_000, rel=0.1)


@pytest.fixture
def router() -> Router:
    return Router(
        settings(
            ServiceSettings("orders", tasks=("shop.orders.*",), keys={"shop.orders.place": "order_id"}),
            ServiceSettings("fraud", tasks=("shop.*.score",), queues=("risk",)),
            ServiceSettings("rest", queues=("default", "risk")),
        )
    )


@pytest.mark.parametrize(
    ("task", "queue", "declared", "expected"),
    [
        ("shop.orders.place", None, None, "orders"),
        # The first pattern that matches has the task.
        ("shop.orders.score", "risk", None, "orders"),
        ("shop.users.score", "default", None, "fraud"),
        # No pattern: the first service with the queue.
        ("other.task", "risk", None, "fraud"),
        ("other.task", "default", None, "rest"),
        # What the task says of itself comes before everything.
        ("shop.orders.place", "risk", "rest", "rest"),
        ("other.task", "elsewhere", None, None),
        ("other.task", None, None, None),
        # Patterns tell upper from lower case.
        ("SHOP.orders.place", None, None, None),
    ],
)
def test_the_service_of_a_task(
    router: Router, task: str, queue: str | None, declared: str | None, expected: str | None
) -> None:
    # Twice, because the second answer comes from memory.
    for _ in range(2):
        found = router.service(task, queue, declared)
        assert (found and found.name) == expected


def test_the_key_argument_of_a_task(router: Router) -> None:
    orders = router.service("shop.orders.place", None)
    assert orders is not None

    assert router.key_argument(orders, "shop.orders.place") == "order_id"
    assert router.key_argument(orders, "shop.orders.cancel") is None


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((7, "x"), {}, "7"),
        ((), {"order": 7}, "7"),
        ((0,), {}, "0"),
        # No business key: left to its default, None, or empty.
        ((), {}, "task-id"),
        ((None,), {}, "task-id"),
        (("",), {}, "task-id"),
    ],
)
def test_the_business_key_of_a_call(args: tuple[object, ...], kwargs: dict[str, object], expected: str) -> None:
    assert business_key("order", ["order", "note"], args, kwargs, "task-id") == expected


def test_an_argument_that_only_a_keyword_can_give() -> None:
    assert business_key("order", ["note"], ("x",), {"order": 9}, "task-id") == "9"
    assert business_key(None, ["note"], ("x",), {"order": 9}, "task-id") == "task-id"
