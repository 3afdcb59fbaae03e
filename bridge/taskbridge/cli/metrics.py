"""`taskbridge metrics`: serve what other processes count."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from taskbridge.cli import monitoring
from taskbridge.exceptions import ConfigurationError

ENDING = (signal.SIGTERM, signal.SIGINT)


@click.command()
@click.option("--http", "listen", metavar="HOST:PORT", required=True, help="Answer there.")
def metrics(listen: str) -> None:
    """
    Serve what other processes count, for Prometheus.

    The processes of a web server or a Celery worker write what they count to the folder that PROMETHEUS_MULTIPROC_DIR
    names. Run beside them, with the same folder, this answers /metrics for all of them. It needs no application.

    \b
    Example:
      PROMETHEUS_MULTIPROC_DIR=/tmp/metrics taskbridge metrics --http 0.0.0.0:8080
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if not Path(folder).is_dir() or not folder:
        raise ConfigurationError(
            f"PROMETHEUS_MULTIPROC_DIR is {folder!r}: let it name the folder in which the processes share their counts"
        )
    # Blocked before the first thread begins, which inherits that: so the signal can be waited for here.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    with monitoring.monitored(listen, lambda: "", lambda: "", tuple, folder):
        signal.sigwait(ENDING)
