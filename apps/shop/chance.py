"""Decisions that look random in traffic but follow from the data alone."""

from hashlib import sha256


def per_mille(*parts: object) -> int:
    """Return a number from 0 to 999 that is the same for the same parts, in every process."""
    digest = sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 1000
