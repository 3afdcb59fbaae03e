"""
A mail backend for rehearsals: a model of the customers' mail servers before a file or a list.

Some addresses greylist (they refuse the first attempt and take the second), some do not exist. Which
ones follows from the address alone. The errors are those that smtplib raises for a real server.
"""

from collections.abc import Sequence
from smtplib import SMTPRecipientsRefused
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from shop.chance import per_mille

ATTEMPT_HEADER = "X-Delivery-Attempt"
GREYLISTED_PER_MILLE = 30
NOWHERE = ".invalid"


def refusal(address: str, attempt: int) -> tuple[int, bytes] | None:
    """Return the reply that refuses an address at an attempt counted from 0, or None if it is taken."""
    if address.endswith(NOWHERE):
        return 550, b"5.1.1 No such user"
    if attempt == 0 and per_mille("greylist", address) < GREYLISTED_PER_MILLE:
        return 450, b"4.2.0 Greylisted, try again later"
    return None


class EmailBackend(BaseEmailBackend):
    """Hand mail to REHEARSAL_EMAIL_BACKEND unless its recipients refuse it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._inner = get_connection(settings.REHEARSAL_EMAIL_BACKEND, **options)

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Return how many messages were handed on; raise SMTPRecipientsRefused for the first refused."""
        for message in email_messages:
            attempt = int(message.extra_headers.get(ATTEMPT_HEADER, 0))
            refusals = {address: refusal(address, attempt) for address in message.recipients()}
            refused = {address: reply for address, reply in refusals.items() if reply}
            if refused:
                raise SMTPRecipientsRefused(refused)
        return self._inner.send_messages(email_messages) or 0
