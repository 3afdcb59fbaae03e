"""`taskbridge relay`: send what was put aside when it is due."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

import click

from taskbridge.adapters.celery.revoking import RevokeListener
from taskbridge.adapters.monitoring.samples import Sample, of_losses, of_relay
from taskbridge.cli import monitoring
from taskbridge.cli.context import pass_bridge
from taskbridge.contrib.django.claims import DjangoRelayStore
from taskbridge.contrib.django.keeper import keepers
from taskbridge.contrib.django.pending import PendingRows
from taskbridge.contrib.django.wiring import cancel_revoked
from taskbridge.exceptions import ConfigurationError, Unavailable
from taskbridge.relay import Keeper, Relay, Sender

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

WATCH = 0.2
"""Seconds after which the main thread, which alone gets signals, looks up from its wait."""


@click.command()
@click.option("--once", is_flag=True, help="Send what is due now, then end.")
@click.option("--batch", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Rows per transaction.")
@click.option(
    "--poll",
    type=click.FloatRange(0.01, 60),
    default=0.25,
    show_default=True,
    help="Longest pause between looks, in seconds.",
)
@click.option("--database", metavar="ALIAS", help="Only rows in this database of Django's settings.")
@monitoring.OPTION
@pass_bridge
def relay(bridge: Bridge, once: bool, batch: int, poll: float, database: str | None, listen: str | None) -> None:
    """
    Send messages that waited in the database.

    Messages with an eta or countdown, retries, and those of the outbox are sent when they are due: to Kafka or to
    Celery, as their flag then says. Messages that one side may have taken already are sent to that side again. Run as
    many as you like; the order of a key is kept. While a server is away, rows are kept and tried again. Tasks that are
    revoked on Celery's broker are cancelled. SIGTERM ends it after the batch under way.

    With --http it answers /healthz (200 while its loops turn; servers may be away), /readyz (200 once its databases
    have answered) and /metrics, in Prometheus' format.

    \b
    Exit status: 0 ended when told to, or (--once) nothing is due any more;
    2 wrong use or set-up, or (--once) a server did not answer and rows are left.

    \b
    Examples:
      taskbridge relay
      taskbridge relay --once
      taskbridge relay --database ledger
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    aliases = _aliases(bridge, database)
    lifting = keepers(bridge) if bridge.settings.database in aliases else []
    relays = {alias: _loop(bridge, alias, batch, poll, lifting if alias == aliases[0] else ()) for alias in aliases}
    loops = list(relays.values())
    listener = RevokeListener(bridge.app, cancel_revoked, f"taskbridge-relay@{bridge.numbering.source}")

    def stop(*_: object) -> None:
        listener.stop()
        for loop in loops:
            loop.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    listening = Thread(target=listener.run, name="revokes", daemon=True)
    if not once:
        listening.start()
    pending = {alias: PendingRows(bridge.stores[alias].sessions, bridge.settings.services) for alias in aliases}
    with ExitStack() as stack:
        if listen is not None:
            stack.enter_context(
                monitoring.monitored(
                    listen,
                    monitoring.stuck(lambda: min(loop.turned_at for loop in loops), bridge.settings.stuck_after),
                    lambda: _silent(relays),
                    lambda: _samples(bridge, relays, pending),
                )
            )
        _run_all([partial(loop.run, once=once) for loop in loops], stop)
    for keeper in lifting:
        keeper.close()
    kafka, celery = (sum(getattr(loop.totals, side) for loop in loops) for side in ("kafka", "celery"))
    click.echo(f"sent {kafka} to Kafka and {celery} to Celery")
    troubles = {why for loop in loops for why in loop.trouble.values()}
    if once and troubles:
        raise Unavailable("; ".join(sorted(troubles)))


def _silent(relays: Mapping[str, Relay]) -> str:
    """Return why the relay is not ready, or nothing."""
    silent = ", ".join(alias for alias, relay in relays.items() if not relay.reached)
    return f"no answer yet from database {silent}" if silent else ""


def _samples(bridge: Bridge, relays: Mapping[str, Relay], pending: Mapping[str, PendingRows]) -> Iterator[Sample]:
    for alias, one in relays.items():
        yield from of_relay(alias, one, pending[alias].read())
    yield from of_losses([bridge.settings.observations_topic], dict(bridge.best_effort.lost))


def _aliases(bridge: Bridge, only: str | None) -> tuple[str, ...]:
    known = bridge.outbox_aliases
    if only is None:
        return known
    if only not in known:
        raise ConfigurationError(f"no rows for the relay are in database {only!r}; it may be: {', '.join(known)}")
    return (only,)


def _loop(bridge: Bridge, alias: str, batch: int, poll: float, lifting: Sequence[Keeper]) -> Relay:
    sender = Sender(bridge.settings, bridge.flags, bridge.confirmed, bridge.resender, bridge.observer, bridge.numbering)
    ordered = [service.name for service in bridge.settings.services.values() if service.ordered]
    store = DjangoRelayStore(bridge.stores[alias].sessions, ordered, bridge.store.sessions)
    return Relay(store, sender, batch, poll, keepers=lifting)


def _run_all(loops: list[Callable[[], object]], stop: Callable[[], None]) -> None:
    """Return when all loops have ended; stop the others and raise when one fails."""
    if len(loops) == 1:
        loops[0]()
        return
    with ThreadPoolExecutor(len(loops), thread_name_prefix="relay") as pool:
        running: set[Future[object]] = {pool.submit(loop) for loop in loops}
        while running:
            done, running = wait(running, WATCH, FIRST_EXCEPTION)
            for future in done:
                if future.exception() is not None:
                    stop()
                future.result()
