"""Logins, certificates, and files that change while the sampler runs."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from cluster.certificates import Authority
from lagscaler.kafka import connection
from lagscaler.kafka.sampler import Reading, Request, Sampler
from lagscaler.policy.model import Gap
from lagscaler.settings import ClusterSettings
from tests.unit.lagscaler.kafka.fake_broker import AUTHENTICATE, HANDSHAKE, FakeBroker

T = TypeVar("T")
ORDERS = Request("orders", "workers", ("orders",))


def shop(tls: ssl.SSLContext | None = None) -> FakeBroker:
    return FakeBroker(logs={"orders": {0: []}}, password="secret", tls=tls)


def with_login(broker: FakeBroker, folder: Path, protocol: str = "SASL_PLAINTEXT") -> ClusterSettings:
    path = folder / "password"
    if not path.exists():
        path.write_text("secret\n")
    return replace(
        broker.settings, security_protocol=protocol, sasl_mechanism="PLAIN", username="operator", password_file=path
    )


def run(broker: FakeBroker, settings: Callable[[], ClusterSettings], work: Callable[[Sampler], Awaitable[T]]) -> T:
    async def main() -> T:
        async with broker, Sampler(settings(), 60.0, 30.0) as sampler:
            return await work(sampler)

    return asyncio.run(main())


async def once(sampler: Sampler) -> Reading:
    return (await sampler.sample([ORDERS]))["orders"]


def put(path: Path, text: str) -> None:
    """Replace a file as Kubernetes does: by another one."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def test_a_login(tmp_path: Path) -> None:
    broker = shop()
    assert run(broker, lambda: with_login(broker, tmp_path), once).gaps == {}
    assert (HANDSHAKE, 1) in broker.asked


def test_a_login_that_is_refused_names_user_reason_and_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    broker = shop()
    gaps = run(broker, lambda: with_login(broker, tmp_path), once).gaps
    assert list(gaps) == [Gap.AUTHENTICATION]
    for part in ("operator", "no such user or password", str(tmp_path / "password")):
        assert part in gaps[Gap.AUTHENTICATION]


def test_a_mechanism_that_the_broker_does_not_offer(tmp_path: Path) -> None:
    broker = shop()
    gaps = run(
        broker, lambda: replace(with_login(broker, tmp_path), sasl_mechanism="SCRAM-SHA-512"), once
    ).gaps  # fmt: skip
    assert "offers no login by SCRAM-SHA-512 at this port, but PLAIN" in gaps[Gap.AUTHENTICATION]


def test_a_password_that_cannot_be_read(tmp_path: Path) -> None:
    broker = shop()
    gaps = run(broker, lambda: replace(with_login(broker, tmp_path), password_file=tmp_path / "nothing"), once).gaps
    assert "the password of cluster main cannot be read" in gaps[Gap.AUTHENTICATION]


def test_a_password_that_changes_is_used_at_once_and_the_old_connection_is_closed(tmp_path: Path) -> None:
    broker = shop()

    async def rotated(sampler: Sampler) -> list[Reading]:
        first = await once(sampler)
        broker.password = "other"
        # The connection that stands goes on.
        second = await once(sampler)
        put(tmp_path / "password", "other")
        return [first, second, await once(sampler)]

    assert [dict(one.gaps) for one in run(broker, lambda: with_login(broker, tmp_path), rotated)] == [{}, {}, {}]
    assert broker.connections == 2


def test_after_a_refusal_the_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    broker = shop()

    async def corrected(sampler: Sampler) -> list[Reading]:
        first = await once(sampler)
        put(tmp_path / "password", "secret")
        return [first, await once(sampler)]

    first, second = run(broker, lambda: with_login(broker, tmp_path), corrected)
    assert list(first.gaps) == [Gap.AUTHENTICATION]
    assert second.gaps == {}


def test_a_change_of_files_does_not_disturb_a_sample_under_way(tmp_path: Path) -> None:
    broker = shop()

    async def disturbed(sampler: Sampler) -> list[Reading]:
        await once(sampler)
        broker.silent.add(3)
        waiting = asyncio.create_task(once(sampler))
        while broker.count(3) < 2:
            await asyncio.sleep(0)
        broker.silent.clear()
        put(tmp_path / "password", "secret\n\n")
        broker.password = "secret"
        second = await once(sampler)
        assert not waiting.done()
        waiting.cancel()
        return [second]

    assert [dict(one.gaps) for one in run(broker, lambda: with_login(broker, tmp_path), disturbed)] == [{}]
    assert broker.connections == 2


def test_a_login_that_expires_is_made_anew_before_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: now))
    broker = shop()
    broker.lifetime, broker.clock = 1000, lambda: now

    async def for_three_lifetimes(sampler: Sampler) -> None:
        nonlocal now
        while now < 3.0:
            assert not (await once(sampler)).gaps
            now += 0.1

    run(broker, lambda: with_login(broker, tmp_path), for_three_lifetimes)
    assert broker.late == []
    assert broker.count(AUTHENTICATE) == broker.connections == 4


def test_a_connection_that_opens_while_a_file_changes_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = shop()
    changed = asyncio.Event()
    held = asyncio.Event()
    really = connection.Connection._step

    async def step(one: connection.Connection, data: bytes, timeout: float) -> bytes:
        held.set()
        await changed.wait()
        return await really(one, data, timeout)

    monkeypatch.setattr(connection.Connection, "_step", step)

    async def rotated(sampler: Sampler) -> list[Reading]:
        task = asyncio.create_task(once(sampler))
        await held.wait()
        put(tmp_path / "password", "other")
        # It sees the change, and waits for the connection that the first one opens.
        second = asyncio.create_task(once(sampler))
        await asyncio.sleep(0)
        # Kafka takes the old password for a moment longer.
        changed.set()
        await task
        broker.password = "other"
        await asyncio.wait({second})
        return [await once(sampler)]

    (found,) = run(broker, lambda: with_login(broker, tmp_path), rotated)
    assert found.gaps == {}
    assert broker.connections >= 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    ours = Authority(folder)
    ours.create()
    ours.issue("broker", "/CN=broker", addresses=[IPv4Address("127.0.0.1")])
    ours.issue("elsewhere", "/CN=elsewhere", names=["kafka.example"])
    ours.issue("client", "/CN=operator")
    other = tmp_path_factory.mktemp("other")
    Authority(other).create()
    os.symlink(other / "ca.crt", folder / "other.crt")
    return folder


def served(authority: Path, name: str = "broker", ask: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / f"{name}.crt", authority / f"{name}.key")
    if ask:
        context.load_verify_locations(authority / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def over_tls(broker: FakeBroker, authority: Path, ca: str = "ca.crt") -> ClusterSettings:
    return replace(broker.settings, security_protocol="SSL", ca_file=authority / ca)


def test_tls_with_a_broker_that_is_trusted(authority: Path) -> None:
    broker = shop(served(authority))
    assert run(broker, lambda: over_tls(broker, authority), once).gaps == {}


def test_tls_and_a_login(authority: Path, tmp_path: Path) -> None:
    broker = shop(served(authority))
    settings = lambda: replace(with_login(broker, tmp_path, "SASL_SSL"), ca_file=authority / "ca.crt")  # noqa: E731
    assert run(broker, settings, once).gaps == {}


@pytest.mark.parametrize(("name", "ca"), [("broker", "other.crt"), ("elsewhere", "ca.crt")])
def test_a_broker_that_is_not_to_be_trusted(authority: Path, name: str, ca: str) -> None:
    broker = shop(served(authority, name))
    gaps = run(broker, lambda: over_tls(broker, authority, ca), once).gaps
    assert list(gaps) == [Gap.AUTHENTICATION]
    assert "is not to be trusted" in gaps[Gap.AUTHENTICATION]


def refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Take one connection, say why it is refused, and wait until the other side has gone."""
    taken, _ = listener.accept()
    with context.wrap_socket(taken, server_side=True, do_handshake_on_connect=False) as secured:
        with suppress(ssl.SSLError):
            secured.do_handshake()
            secured.recv(1)
        socket.socket.shutdown(secured, socket.SHUT_WR)
        with suppress(OSError):
            while socket.socket.recv(secured, 4096):
                pass


def test_a_broker_that_asks_for_a_certificate_that_we_do_not_have(authority: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=refuse, args=(listener, served(authority, ask=True)))
        server.start()
        settings = ClusterSettings(
            "main", f"127.0.0.1:{listener.getsockname()[1]}", security_protocol="SSL", ca_file=authority / "ca.crt"
        )

        async def main() -> Reading:
            async with Sampler(settings, 60.0, 30.0) as sampler:
                return await once(sampler)

        gaps = asyncio.run(main()).gaps
        server.join(60)
    assert list(gaps) == [Gap.AUTHENTICATION]
    assert "check certificateFile and keyFile" in gaps[Gap.AUTHENTICATION]


def test_a_broker_that_asks_for_our_certificate(authority: Path) -> None:
    broker = shop(served(authority, ask=True))

    def certified() -> ClusterSettings:
        files = {"certificate_file": authority / "client.crt", "key_file": authority / "client.key"}
        return replace(over_tls(broker, authority), **files)  # type: ignore[arg-type]

    assert run(broker, certified, once).gaps == {}


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_an_authority_that_cannot_be_used(authority: Path, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    broker = shop(served(authority))
    gaps = run(broker, lambda: replace(over_tls(broker, authority), ca_file=path), once).gaps
    assert "the certificates of cluster main cannot be used" in gaps[Gap.AUTHENTICATION]


def test_a_key_that_is_encrypted_is_refused_and_nobody_is_asked_for_its_password(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(
        ["openssl", "pkey", "-in", authority / "client.key", "-aes256", "-passout", "pass:x", "-out", tmp_path / "key"],
        check=True,
    )
    broker = shop(served(authority, ask=True))
    passwords = []
    really = ssl.SSLContext.load_cert_chain

    def chain(context: ssl.SSLContext, crt: Path, key: Path, password: str | None = None) -> None:
        passwords.append(password)
        really(context, crt, key, password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", chain)
    settings = lambda: replace(  # noqa: E731
        over_tls(broker, authority), certificate_file=authority / "client.crt", key_file=tmp_path / "key"
    )
    gaps = run(broker, settings, once).gaps
    assert "keyFile, which must not be encrypted" in gaps[Gap.AUTHENTICATION]
    # Without one OpenSSL asks at the terminal, and everything waits for the answer.
    assert passwords == [""]


def test_an_authority_that_changes_is_used_at_once(authority: Path, tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_text((authority / "other.crt").read_text())
    broker = shop(served(authority))

    async def replaced(sampler: Sampler) -> list[Reading]:
        first = await once(sampler)
        put(path, (authority / "ca.crt").read_text())
        return [first, await once(sampler)]

    first, second = run(broker, lambda: replace(over_tls(broker, authority), ca_file=path), replaced)
    assert list(first.gaps) == [Gap.AUTHENTICATION]
    assert second.gaps == {}


def test_tls_with_a_broker_that_does_not_speak_it(authority: Path) -> None:
    broker = shop()
    gaps = run(broker, lambda: over_tls(broker, authority), once).gaps
    assert list(gaps) == [Gap.UNREACHABLE]


def test_a_broker_that_speaks_tls_and_is_not_asked_to(authority: Path) -> None:
    broker = shop(served(authority))
    gaps = run(broker, lambda: broker.settings, once).gaps
    assert list(gaps) == [Gap.UNREACHABLE]
    assert "PLAINTEXT" in gaps[Gap.UNREACHABLE] or "protocol" in gaps[Gap.UNREACHABLE]
