"""The models of mail servers and of the text message provider."""

import pytest

from shop.notifications.rehearsal import refusal
from shop.notifications.texting import ProviderBusyError, UnknownNumberError, send_text

ADDRESSES = [f"customer.{number}@example.net" for number in range(3_000)]
PHONES = [f"+47{number:08d}" for number in range(3_000)]


def busy(phone):
    try:
        send_text(phone, "text", attempt=0)
    except ProviderBusyError:
        return True
    return False


def test_about_three_in_a_hundred_addresses_greylist_the_first_attempt():
    greylisted = [address for address in ADDRESSES if refusal(address, 0)]
    assert 60 < len(greylisted) < 120
    assert all(refusal(address, 0)[0] == 450 for address in greylisted)
    assert not any(refusal(address, 1) for address in greylisted)


def test_an_address_that_does_not_exist_is_refused_for_good():
    assert [refusal("ada@nowhere.invalid", attempt)[0] for attempt in range(3)] == [550, 550, 550]


def test_the_provider_is_busy_for_a_few_numbers_and_only_once():
    refused = [phone for phone in PHONES if busy(phone)]
    assert 30 < len(refused) < 100
    assert all(send_text(phone, "text", attempt=1) for phone in refused)


def test_a_text_needs_a_number():
    with pytest.raises(UnknownNumberError, match="'12345678'"):
        send_text("12345678", "text", attempt=0)
