"""`taskbridge worker`: run a service's tasks from Kafka."""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import click

from taskbridge.adapters.monitoring.samples import of_worker
from taskbridge.cli import monitoring
from taskbridge.cli.context import pass_bridge

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@click.command()
@click.option("--service", required=True, help="The service whose tasks are run.")
@click.option("--processes", type=click.IntRange(1, 256), default=None, help="Executors.  [default: CPU count]")
@click.option(
    "--role",
    type=click.Choice(["live", "shadow"]),
    default="live",
    show_default=True,
    help="live runs tasks; shadow checks copies and runs nothing.",
)
@click.option(
    "--loglevel",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="As for `celery worker`.",
)
@click.option("--drain-timeout", type=float, help="Seconds for running tasks after SIGTERM.  [default: the setting]")
@monitoring.OPTION
@click.pass_context
@pass_bridge
def worker(
    bridge: Any,
    context: click.Context,
    service: str,
    processes: int | None,
    role: str,
    loglevel: str,
    drain_timeout: float | None,
    listen: str | None,
) -> None:
    """
    Run a service's tasks from Kafka.

    One consumer feeds the executor processes. SIGTERM or Ctrl-C lets running tasks finish; what has not begun stays in
    the topic for the next worker. A second Ctrl-C cuts running tasks off; they run again.

    With --http it answers /healthz (200 while its loop turns; Kafka may be away), /readyz (200 once it has joined its
    group, with partitions or without) and /metrics, in Prometheus' format.

    \b
    Exit status: 0 ended when told to; 2 wrong use or set-up, or Kafka did not answer at the start.

    \b
    Examples:
      taskbridge worker --service orders --processes 2
      taskbridge worker --service orders --processes 2 --http 0.0.0.0:8080
      taskbridge worker --service orders --role shadow --processes 1
    """
    from taskbridge.adapters.celery import executor
    from taskbridge.adapters.celery.zygote import APP_VARIABLE, HOSTNAME_VARIABLE
    from taskbridge.adapters.kafka.consumer import KafkaRecordSource
    from taskbridge.worker.supervisor import Options, Supervisor

    settings = bridge.settings
    chosen = settings.service(service)
    host = socket.gethostname()
    logging.basicConfig(level=loglevel.upper(), format="[%(asctime)s: %(levelname)s/Supervisor] %(message)s")
    os.environ[APP_VARIABLE] = context.obj
    os.environ[HOSTNAME_VARIABLE] = f"taskbridge-{service}@{host}"
    # Celery's own variable: what its process initializer sets logging up with.
    os.environ["CELERY_LOG_LEVEL"] = str(logging.getLevelNamesMapping()[loglevel.upper()])
    multiprocessing.get_context("forkserver").set_forkserver_preload([executor.ZYGOTE])
    topic = settings.topic(service) if role == "live" else settings.shadow_topic(service)
    options = Options(
        service=service,
        topic=topic,
        group=settings.group(service, role),
        dead_letter_topic=settings.dead_letter_topic(service),
        source_name=f"{host}:{os.getpid()}:{secrets.token_hex(4)}",
        processes=processes or os.cpu_count() or 1,
        drain_timeout=settings.drain_timeout if drain_timeout is None else drain_timeout,
        kind="copy" if role == "shadow" else "run",
        ordered=chosen.ordered and role == "live",
    )
    supervisor = Supervisor(
        options,
        KafkaRecordSource(settings.kafka, topic, options.group, settings.group_protocol, options.source_name),
        bridge.confirmed,
        bridge.observer,
        executor.main,
        executor.ExecutorOptions(topic, role, chosen.max_deliveries),
    )
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    signal.signal(signal.SIGINT, _interrupt(supervisor.stop, supervisor.hurry))
    with ExitStack() as stack:
        if listen is not None:
            # What executors dispatch they count themselves, each in its own process.
            folder = stack.enter_context(monitoring.shared_counts())
            bridge.share_counts()
            stack.enter_context(
                monitoring.monitored(
                    listen,
                    monitoring.stuck(lambda: supervisor.turned_at, settings.stuck_after),
                    lambda: "" if supervisor.joined else f"group {options.group} is not joined yet",
                    lambda: of_worker(service, role, supervisor.joined, supervisor.snapshot),
                    folder,
                )
            )
        supervisor.run(
            on_ready=lambda: click.echo(
                f"worker ready: {options.processes} executors, topic {topic}, group {options.group}", err=True
            )
        )
        bridge.close()
    click.echo(f"worker stopped: {supervisor.finished} records", err=True)


def _interrupt(first: Callable[[], None], then: Callable[[], None]) -> Callable[..., None]:
    """Return a signal handler for Ctrl-C that does one thing the first time, and another from then on."""
    calls = iter((first,))

    def handler(*_: Any) -> None:
        next(calls, then)()

    return handler
