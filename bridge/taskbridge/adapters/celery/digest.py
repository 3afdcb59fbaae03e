"""A fingerprint of decoded arguments, so that both sides can tell whether they were given the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from kombu.utils.json import JSONEncoder

_encode = JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def arguments_digest(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """
    Return the first 16 hexadecimal digits of the SHA-256 of the arguments as canonical JSON.

    Empty for arguments that kombu's JSON cannot express, as other serializers may bring.
    """
    try:
        text = _encode([list(args), dict(kwargs)])
    except (TypeError, ValueError, RecursionError):
        return ""
    return sha256(text.encode()).hexdigest()[:16]
