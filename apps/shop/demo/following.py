"""A customer who places one order over HTTP and waits until it is confirmed; no database here."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from shop.orders.states import CLOSED, State

INTERVAL = 0.5
"""Seconds between two looks."""


class NotConfirmedError(Exception):
    """The order was not placed, or did not come to its confirmation; the message says how far it came."""


@dataclass(frozen=True)
class Seen:
    """A state of the order, and the seconds after which it was first seen."""

    state: str
    seconds: float


def follow(
    client: httpx.Client,
    customer: str,
    lines: list[tuple[str, int]],
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Seen]:
    """
    Place an order and yield each state in which it is seen, up to its confirmation.

    `client` knows the shop's address and a token. Raises NotConfirmedError when the shop refuses or closes it, and
    when it is not confirmed after `timeout` seconds. A shop that is out of reach is asked again until then: between
    two pods of a rolling upgrade that may happen.
    """
    began = clock()
    wanted = {"customer": customer, "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines]}
    headers = {"Idempotency-Key": f"follow-{time.time_ns()}"}
    order = ""
    last = "not placed"
    while True:
        try:
            if order:
                answer = client.get(f"/api/orders/{order}/")
            else:
                answer = client.post("/api/orders/", json=wanted, headers=headers)
            trouble = f"the shop answered {answer.status_code}: {answer.text[:200]}"
            if answer.is_success:
                order, state = answer.json()["id"], answer.json()["state"]
                if state != last:
                    yield Seen(state, clock() - began)
                last, trouble = state, ""
            elif answer.is_client_error:
                raise NotConfirmedError(trouble)
        except httpx.TransportError as problem:
            trouble = f"{client.base_url} cannot be reached: {problem}"
        if last == State.CONFIRMED:
            return
        if last in CLOSED:
            raise NotConfirmedError(f"order {order} is {last}: {answer.json()['reason']}")
        if clock() - began > timeout:
            where = trouble or "see that workers run for every service on its way"
            raise NotConfirmedError(f"order {order or '-'} is {last} after {timeout:g} s; {where}")
        sleep(INTERVAL)
