"""An order that is placed and followed over HTTP, with a shop that answers from a list."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from shop.demo.following import NotConfirmedError, follow

ORDER = {"id": "4e8f", "reason": ""}


class Clock:
    """Time that passes only in naps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Shop:
    """Answers each request with the next of its answers, and keeps the requests."""

    def __init__(self, *answers: tuple[int, object] | None) -> None:
        self._answers: Iterator[tuple[int, object] | None] = iter(answers)
        self.requests: list[httpx.Request] = []
        self.client = httpx.Client(base_url="http://shop", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if answer is None:
            raise httpx.ConnectError("connection refused")
        return httpx.Response(answer[0], json=answer[1])

    def follow(self, timeout: float = 60) -> list[str]:
        clock = Clock()
        seen = follow(self.client, "C000001", [("P00001", 2)], timeout, clock, clock.sleep)
        return [one.state for one in seen]


def in_state(state: str, reason: str = "") -> tuple[int, object]:
    return 200, {**ORDER, "state": state, "reason": reason}


def test_each_state_is_told_once_up_to_the_confirmation() -> None:
    shop = Shop(
        (201, {**ORDER, "state": "placed"}),
        in_state("placed"),
        in_state("validated"),
        in_state("authorized"),
        in_state("confirmed"),
    )

    assert shop.follow() == ["placed", "validated", "authorized", "confirmed"]
    assert json.loads(shop.requests[0].content) == {
        "customer": "C000001",
        "lines": [{"sku": "P00001", "quantity": 2}],
    }
    assert {request.url.path for request in shop.requests[1:]} == {"/api/orders/4e8f/"}


def test_a_shop_that_is_away_for_a_moment_is_asked_again_for_the_same_order() -> None:
    shop = Shop(None, (503, {"error": "later"}), (201, {**ORDER, "state": "placed"}), None, in_state("confirmed"))

    assert shop.follow() == ["placed", "confirmed"]
    assert len({request.headers["Idempotency-Key"] for request in shop.requests if request.method == "POST"}) == 1


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([(401, {"error": "Send a valid token"})], "the shop answered 401: .*Send a valid token"),
        ([(400, {"error": "There is no product P00001."})], "There is no product P00001"),
        (
            [in_state("placed"), in_state("rejected", "Not all products could be reserved.")],
            "4e8f is rejected: Not all",
        ),
        ([in_state("placed"), *[in_state("validated")] * 5], "4e8f is validated after 2 s; see that workers run"),
        ([None] * 6, "order - is not placed after 2 s; http://shop cannot be reached: connection refused"),
    ],
    ids=["no token", "refused", "closed", "too slow", "away"],
)
def test_an_order_that_does_not_come_through_says_why(answers: list[tuple[int, object] | None], sentence: str) -> None:
    with pytest.raises(NotConfirmedError, match=sentence):
        Shop(*answers).follow(timeout=2)
