"""The model of the card processor."""

import pytest

from shop.payments.gateway import GatewayUnavailableError, PaymentDeclinedError, authorize


def attempt(card, number, amount=1_000):
    return authorize(card, amount, "EUR", order="an-order", attempt=number)


def busy(number):
    cards = []
    for position in range(2_000):
        try:
            attempt(f"tok_{position}", number)
        except GatewayUnavailableError:
            cards.append(f"tok_{position}")
    return cards


def test_a_few_first_attempts_find_it_busy_and_always_the_same_ones():
    cards = busy(0)
    assert 20 < len(cards) < 90
    assert busy(0) == cards


def test_the_third_attempt_always_gets_an_answer():
    assert busy(2) == []


def test_a_card_that_is_declined_is_declined_at_every_attempt():
    for number in range(3):
        with pytest.raises(PaymentDeclinedError):
            attempt("tok_declined_1", number)


def test_the_reference_is_the_same_for_the_same_order_and_amount():
    assert attempt("tok_1", 3) == attempt("tok_1", 4)
    assert attempt("tok_1", 3) != attempt("tok_1", 3, amount=1_001)
