"""What `--http` of a command means."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from taskbridge.exceptions import ConfigurationError

if TYPE_CHECKING:
    from taskbridge.adapters.monitoring.samples import Sample

OPTION = click.option(
    "--http", "listen", metavar="HOST:PORT", help="Answer /healthz, /readyz and /metrics there.  [default: nowhere]"
)


def stuck(turned_at: Callable[[], float], limit: float) -> Callable[[], str]:
    """Return what says why a loop is not healthy: that it last came round more than `limit` seconds ago."""

    def why_not() -> str:
        ago = time.monotonic() - turned_at()
        return f"the loop has not come round for {ago:.0f} s" if ago > limit else ""

    return why_not


@contextmanager
def monitored(
    listen: str,
    why_not_healthy: Callable[[], str],
    why_not_ready: Callable[[], str],
    read: Callable[[], Iterable[Sample]],
    shared: str = "",
) -> Iterator[None]:
    """
    Answer probes and scrapes at `listen` within the block.

    `shared` names the folder in which other processes write their counts. Raises ConfigurationError when one cannot
    listen there, or the client library is not installed.
    """
    _require_client()
    from taskbridge.adapters.monitoring.exposition import Samples, exposed
    from taskbridge.adapters.monitoring.server import Answer, Server, probe
    from taskbridge.adapters.monitoring.sharing import AllProcesses

    collectors: list[Any] = [Samples(read)]
    if shared:
        collectors.append(AllProcesses(shared))

    def metrics(accept: str) -> Answer:
        return Answer(*exposed(collectors, accept))

    routes = {"/healthz": probe(why_not_healthy), "/readyz": probe(why_not_ready), "/metrics": metrics}
    with Server(listen, routes) as server:
        click.echo(f"health and metrics at http://{server.address}", err=True)
        yield


@contextmanager
def shared_counts() -> Iterator[str]:
    """
    Yield the folder in which processes that are started within the block share their counts.

    It is the one that the environment names, else a new one that goes with the block.
    """
    _require_client()
    from taskbridge.adapters.monitoring.sharing import FOLDER_VARIABLE

    with ExitStack() as stack:
        folder = os.environ.get(FOLDER_VARIABLE, "")
        if not folder:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="taskbridge-metrics-"))
            os.environ[FOLDER_VARIABLE] = folder
            stack.callback(os.environ.pop, FOLDER_VARIABLE)
        yield folder


def _require_client() -> None:
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "--http needs the package prometheus-client: `pip install 'taskbridge[metrics]'`"
        ) from None
