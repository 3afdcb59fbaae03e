"""`taskbridge relay`: send what was put aside when it is due."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import click

from taskbridge.cli.context import pass_bridge
from taskbridge.contrib.django.claims import DjangoRelayStore
from taskbridge.exceptions import Unavailable
from taskbridge.relay import Relay, Sender

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


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
@pass_bridge
def relay(bridge: Bridge, once: bool, batch: int, poll: float) -> None:
    """
    Send messages that waited in the database.

    Messages with an eta or countdown, and retries, are sent when they are due: to Kafka or to Celery, as their
    service's flag then says. Messages that Kafka may or may not have taken are sent to Kafka again. Run as many as you
    like; the order of a key is kept. While a server is away, rows are kept and tried again. SIGTERM ends it after the
    batch under way.

    \b
    Exit status: 0 ended when told to, or (--once) nothing is due any more;
    2 wrong use or set-up, or (--once) a server did not answer and rows are left.

    \b
    Examples:
      taskbridge relay
      taskbridge relay --once
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sender = Sender(bridge.settings, bridge.flags, bridge.confirmed, bridge.resender, bridge.observer, bridge.numbering)
    loop = Relay(DjangoRelayStore(bridge.store.sessions), sender, batch, poll)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    totals = loop.run(once=once)
    click.echo(f"sent {totals.kafka} to Kafka and {totals.celery} to Celery")
    if once and loop.trouble:
        raise Unavailable("; ".join(loop.trouble.values()))
