"""The client's half of SCRAM: a login in which the password is never sent (RFC 5802, RFC 7677)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

MECHANISMS = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
"""Mechanisms and their hashes."""

LEAST_ITERATIONS = 4096
"""
Rounds of hashing that a server must ask for (RFC 7677); Kafka takes no user with fewer. Whoever plays the server could
guess the password from a proof that is cheap to make.
"""

MOST_ITERATIONS = 200_000
"""Rounds that it may ask for; Kafka's own limit is 16,384. More would hold the event loop up."""


class ScramError(Exception):
    """The server's half does not fit: it is not the server that knows the password, or no server of SCRAM."""


class Scram:
    """One login; call `first`, then `final` with the server's answer, then `verify` with its last one."""

    def __init__(self, mechanism: str, username: str, password: str, nonce: str | None = None) -> None:
        """`mechanism` is one of MECHANISMS; `nonce` is random unless it is given."""
        self._hash = MECHANISMS[mechanism]
        self._password = password.encode()
        self._nonce = nonce or secrets.token_urlsafe(24)
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={self._nonce}"
        self._signature = b""

    def first(self) -> bytes:
        """Return the client's first message."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Return the client's final message, with its proof; raise ScramError for an answer that does not fit."""
        fields = _fields(server_first)
        nonce = fields.get("r", "")
        try:
            salt, rounds = base64.b64decode(fields["s"], validate=True), int(fields["i"])
        except (KeyError, ValueError, binascii.Error) as error:
            raise ScramError("the server's first message is not one of SCRAM") from error
        if not nonce.startswith(self._nonce) or not LEAST_ITERATIONS <= rounds <= MOST_ITERATIONS:
            raise ScramError("the server's first message does not belong to this login")
        bare = f"c=biws,r={nonce}"
        message = ",".join([self._bare, server_first.decode(), bare]).encode()
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, rounds)
        client_key = self._hmac(salted, b"Client Key")
        signature = self._hmac(hashlib.new(self._hash, client_key).digest(), message)
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        self._signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        """Raise ScramError unless the server has shown that it knows the password too."""
        shown = _fields(server_final).get("v", "")
        if not hmac.compare_digest(shown.encode(), base64.b64encode(self._signature)):
            raise ScramError("the server does not know this user's password, so it is not the one to talk to")

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._hash)


def _fields(message: bytes) -> dict[str, str]:
    try:
        return dict(part.partition("=")[::2] for part in message.decode().split(","))
    except UnicodeDecodeError as error:
        raise ScramError("the server's message is not one of SCRAM") from error
