"""A model of the text message provider, within the process; it answers from the data alone."""

from shop.chance import per_mille

BUSY_PER_MILLE = 20


class ProviderBusyError(Exception):
    """The provider takes no more messages now."""


class UnknownNumberError(Exception):
    """Nobody has this number."""


def send_text(phone: str, text: str, *, attempt: int) -> str:
    """Return the provider's receipt; raise ProviderBusyError or UnknownNumberError."""
    if not phone.startswith("+"):
        raise UnknownNumberError(f"{phone!r} is no number that a message can be sent to.")
    if attempt == 0 and per_mille("text", phone) < BUSY_PER_MILLE:
        raise ProviderBusyError("The text message provider is busy.")
    return f"tx-{per_mille(phone, text):03d}"
