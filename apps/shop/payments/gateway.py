"""
A model of the card processor, within the process.

It answers from the data alone: the same card, amount and attempt always get the same answer.
"""

from hashlib import sha256

from shop.chance import per_mille

BUSY_PER_MILLE = 25


class GatewayUnavailableError(Exception):
    """The processor cannot answer now; the same request may succeed later."""


class PaymentDeclinedError(Exception):
    """The card's bank said no."""


def authorize(card_token: str, amount_minor: int, currency: str, *, order: str, attempt: int) -> str:
    """Return the processor's reference; raise GatewayUnavailableError or PaymentDeclinedError."""
    if card_token.startswith("tok_declined"):
        raise PaymentDeclinedError("The card was declined.")
    if attempt < 2 and per_mille("gateway", card_token, amount_minor, currency, attempt) < BUSY_PER_MILLE:
        raise GatewayUnavailableError("The card processor is busy.")
    return "au_" + sha256(f"{order}:{amount_minor}:{currency}".encode()).hexdigest()[:24]
