"""
One connection to one broker: many questions under way at once.

Each has its own time limit. Brokers answer in the order of the questions, so one that gets no answer in time ends the
connection, and with it the others.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import suppress
from typing import Self, TypeVar

from lagscaler.kafka.calls import Call, authenticate, handshake, versions
from lagscaler.kafka.credentials import Credentials, LoginRefused
from lagscaler.kafka.scram import MECHANISMS, Scram, ScramError
from lagscaler.kafka.wire import MalformedError, Reader, Writer

T = TypeVar("T")

CLIENT_ID = "lagscaler"
"""What brokers know the operator as, in quotas and logs."""

MOST_BYTES = 256 * 1024 * 1024
"""Length of an answer beyond which it is not one of Kafka's."""

BUFFER = 1024 * 1024
"""Bytes that may wait to be read before the sender is held up."""

LIFETIME_USED = 0.8
"""Share of a login's lifetime after which a new connection is made, before the broker ends the old one."""

_SASL_AUTHENTICATE = 36
_ALERTS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN")
"""What TLS calls a refusal of our own certificate."""


class Unreachable(Exception):
    """A broker did not answer, or not in Kafka's protocol; the sentence tells which and what happened."""


class Connection:
    """A connection that is open, and logged in; made by `open`. Its methods belong to one event loop."""

    def __init__(
        self,
        where: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        credentials: Credentials,
        generation: int,
    ) -> None:
        """`generation` is that of the credentials when the connection began."""
        self.where = where
        self.timed_out = False
        """Whether the broker left a question without an answer, so that to ask it again would not do."""
        self._reader = reader
        self._writer = writer
        self._credentials = credentials
        self._generation = generation
        self._waiting: dict[int, asyncio.Future[Reader]] = {}
        self._number = 0
        self._failure: Exception | None = None
        self._retired = False
        self._ends_at = float("inf")
        self._versions: dict[int, tuple[int, int]] = {}
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def open(cls, host: str, port: int, credentials: Credentials, timeout: float) -> Self:
        """
        Connect and log in, within `timeout` seconds.

        Raises Unreachable, and LoginRefused where the broker or the operator does not accept the other.
        """
        where = f"{host}:{port}"
        generation, context = credentials.generation, credentials.context()
        connection: Self | None = None
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=BUFFER)
                connection = cls(where, reader, writer, credentials, generation)
                connection._versions = await connection.ask(versions(), timeout)
                if credentials.settings.security_protocol.startswith("SASL_"):
                    await connection._log_in(timeout)
            opened, connection = connection, None
            return opened
        except TimeoutError as error:
            raise Unreachable(f"broker {where} did not answer within {timeout:g} s") from error
        except ssl.SSLError as error:
            raise _untrusted(where, error) from error
        except OSError as error:
            raise Unreachable(f"broker {where} cannot be connected to: {error.strerror or error}") from error
        except (ValueError, OverflowError) as error:
            # Of a name or a port that is none, whoever gave it.
            raise Unreachable(f"broker {where} cannot be connected to: {error}") from error
        finally:
            if connection is not None:
                await connection.close()

    @property
    def usable(self) -> bool:
        """Whether a further question may be asked here, with the credentials as they are now."""
        known = self._generation == self._credentials.generation
        return self._failure is None and not self._retired and known and time.monotonic() < self._ends_at

    def speaks(self, api: int, version: int) -> bool:
        """Return whether the broker knows a version of an API."""
        low, high = self._versions.get(api, (0, -1))
        return low <= version <= high

    async def ask(self, call: Call[T], timeout: float) -> T:
        """
        Return the answer; raise Unreachable when none comes within `timeout` seconds, which ends the connection.

        Whoever is cancelled while he waits leaves the connection usable: his answer is thrown away.
        """
        if self._failure is not None:
            raise self._failure
        self._number = number = (self._number + 1) & 0x7FFFFFFF
        head = Writer().int16(call.api).int16(call.version).int32(number).string(CLIENT_ID)
        if call.flexible:
            head.no_tags()
        message = head.done() + call.body
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(len(message).to_bytes(4, "big") + message)
                await self._writer.drain()
                reader = await future
            if call.flexible:
                reader.skip_tags()
            return call.read(reader)
        except TimeoutError as error:
            failure = Unreachable(f"broker {self.where} did not answer within {timeout:g} s")
            self.timed_out = True
            self._fail(failure)
            raise failure from error
        except OSError as error:
            failure = Unreachable(f"the connection to broker {self.where} broke: {error.strerror or error}")
            self._fail(failure)
            raise failure from error
        except MalformedError as error:
            failure = Unreachable(f"broker {self.where} does not speak Kafka's protocol: {error}")
            self._fail(failure)
            raise failure from error
        finally:
            self._waiting.pop(number, None)
            # A future that failed, and that nobody waits for any more, would be told of by asyncio.
            if future.done() and not future.cancelled():
                future.exception()
            if self._retired and not self._waiting:
                self._fail(Unreachable(f"the connection to broker {self.where} was replaced"))

    def retire(self) -> None:
        """Close the connection as soon as no question is under way."""
        self._retired = True
        if not self._waiting:
            self._fail(Unreachable(f"the connection to broker {self.where} was replaced"))

    async def close(self) -> None:
        """Close the connection; questions under way end with Unreachable."""
        self._fail(Unreachable(f"the connection to broker {self.where} was closed"))
        await asyncio.wait({self._receiving})
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _receive(self) -> None:
        """Hand answers to whom they belong until the connection ends."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(4), "big")
                if not 4 <= length <= MOST_BYTES:
                    raise MalformedError(f"an answer of {length} bytes was announced")
                reader = Reader(await self._reader.readexactly(length))
                future = self._waiting.get(reader.int32())
                if future is not None and not future.done():
                    future.set_result(reader)
        except asyncio.IncompleteReadError:
            self._fail(
                Unreachable(
                    f"broker {self.where} closed the connection; if it does so each time, check that it speaks"
                    f" {self._spoken()} at this port"
                )
            )
        except ssl.SSLError as error:
            self._fail(_untrusted(self.where, error))
        except OSError as error:
            self._fail(Unreachable(f"the connection to broker {self.where} broke: {error.strerror or error}"))
        except MalformedError as error:
            self._fail(Unreachable(f"broker {self.where} does not speak Kafka's protocol: {error}"))

    def _fail(self, failure: Exception) -> None:
        """Take no more questions, and answer those under way with a failure."""
        if self._failure is None:
            self._failure = failure
            if self._receiving is not asyncio.current_task():
                self._receiving.cancel()
            # Nothing that was written matters any more, and an orderly end of TLS would wait for the other side.
            self._writer.transport.abort()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(failure)

    def _spoken(self) -> str:
        settings = self._credentials.settings
        if "SSL" in settings.security_protocol and settings.certificate_file is None:
            return f"{settings.security_protocol}, without a certificate of the client's,"
        return settings.security_protocol

    async def _log_in(self, timeout: float) -> None:
        settings = self._credentials.settings
        mechanism, user = settings.sasl_mechanism or "", settings.username or ""
        password = self._credentials.password()
        refused, offered = await self.ask(handshake(mechanism), timeout)
        if refused:
            known = ", ".join(offered) or "none"
            raise LoginRefused(f"broker {self.where} offers no login by {mechanism} at this port, but {known}")
        if mechanism not in MECHANISMS:
            await self._step(f"\0{user}\0{password}".encode(), timeout)
            return
        scram = Scram(mechanism, user, password)
        try:
            proof = scram.final(await self._step(scram.first(), timeout))
            scram.verify(await self._step(proof, timeout))
        except ScramError as error:
            raise LoginRefused(f"the login of {user} at broker {self.where} failed: {error}") from error

    async def _step(self, data: bytes, timeout: float) -> bytes:
        told = 1 if self.speaks(_SASL_AUTHENTICATE, 1) else 0
        login = await self.ask(authenticate(data, told), timeout)
        if login.error:
            settings = self._credentials.settings
            raise LoginRefused(
                f"broker {self.where} refuses the login of {settings.username} ({login.message or 'no reason given'});"
                f" check the username and the password in {settings.password_file}"
            )
        if login.lifetime > 0:
            self._ends_at = time.monotonic() + login.lifetime / 1000 * LIFETIME_USED
        return login.data


def _untrusted(where: str, error: ssl.SSLError) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return LoginRefused(
            f"the certificate of broker {where} is not to be trusted ({error.verify_message}); check caFile and the"
            " name in bootstrapServers"
        )
    if any(alert in (error.reason or "") for alert in _ALERTS):
        return LoginRefused(
            f"broker {where} refuses the operator's certificate ({error.reason}); check certificateFile and keyFile"
        )
    return Unreachable(f"TLS with broker {where} failed ({error.reason or error}); check that it speaks TLS there")
