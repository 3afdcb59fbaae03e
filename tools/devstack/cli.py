"""The commands `up`, `down`, `status`, `env` and `fetch`."""

import json
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from devstack import jars, state
from devstack.errors import DevstackError, NotReadyError
from devstack.service import Service
from devstack.stack import SERVICES, Stack

__all__ = ["main"]

_OUT = Console(soft_wrap=True)
_CHECK_INTERVAL = 0.5
_WIDTH = 300


def _default_state_dir() -> Path:
    """Return `var/devstack` of the project around the working directory, or of that directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists():
            return folder / "var" / "devstack"
    return here / "var" / "devstack"


def _say(line: str) -> None:
    click.echo(line, err=True)


def _state_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=_default_state_dir,
        show_default="var/devstack of the project",
        help="Where ports, passwords, data and logs are kept.",
    )(command)


def _one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can mend into a message without a traceback, and exit status 1."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except DevstackError as failed:
            raise click.ClickException(str(failed)) from failed

    return run


@click.group(
    epilog="""\b
Examples:
  python -m devstack up                    start everything and return
  eval "$(python -m devstack env)"         point this shell at it
  python -m devstack up -s postgres        start PostgreSQL only
  python -m devstack down --wipe           stop everything and remove the data

\b
Exit status: 0 done; 1 something failed, the message says what to do;
2 wrong use; 3 (status) not everything is running."""
)
def main() -> None:
    """PostgreSQL, Redis and Kafka as local processes, on free ports of 127.0.0.1."""


@main.command(
    epilog="""\b
Examples:
  python -m devstack up
  python -m devstack up --foreground       until Ctrl-C
  python -m devstack up -s redis -s kafka"""
)
@_state_dir_option
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, then stop the services.")
@click.option("-s", "--service", "services", multiple=True, type=click.Choice(list(SERVICES)), help="Only these.")
@_one_sentence
def up(state_dir: Path, foreground: bool, services: tuple[str, ...]) -> None:
    """Start the services and print how to reach them; those that run are left as they are."""
    stack = Stack(services or tuple(SERVICES), state_dir, detached=not foreground, report=_say)
    running = {name for name, service in stack.services.items() if service.is_running}
    began = time.monotonic()
    if foreground:
        _run_foreground(stack, state_dir, began)
        return
    stack.start()
    started = [name for name in stack.services if name not in running]
    _print_table(stack)
    if started:
        _OUT.print(f"Started {', '.join(started)} in {time.monotonic() - began:.1f} s.")
    else:
        _OUT.print("Everything was running already.")
    _print_usage(state_dir)


def _run_foreground(stack: Stack, state_dir: Path, began: float) -> None:
    # A plain `kill` shall end the services as orderly as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with stack:
            _print_table(stack)
            _OUT.print(f"Started in {time.monotonic() - began:.1f} s. Ctrl-C stops the services.")
            _print_usage(state_dir)
            while True:
                for service in stack.services.values():
                    if not service.is_running:
                        raise DevstackError(f"{service.name} has ended; its log is {service.log_path}.")
                time.sleep(_CHECK_INTERVAL)
    except KeyboardInterrupt:
        _OUT.print("Stopped.")


def _print_table(stack: Stack) -> None:
    rows = [(service.name, str(service.pid), state.mask(service.url)) for service in stack.services.values()]
    _print_rows(("service", "pid", "URL"), rows)
    _OUT.print(f"Logs: {stack.state_dir}/<service>/<service>.log", markup=False)


def _print_rows(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    # Wider than some terminals: a URL that is cut or folded cannot be copied.
    _OUT.print(table, width=_WIDTH, crop=False)


def _print_usage(state_dir: Path) -> None:
    option = "" if state_dir == _default_state_dir() else f" --state-dir {shlex.quote(str(state_dir))}"
    _OUT.print(f'Use it:  eval "$(python -m devstack env{option})"', markup=False)
    _OUT.print(f"Stop it: python -m devstack down{option}", markup=False)


@main.command()
@_state_dir_option
@click.option("--wipe", is_flag=True, help="Also remove data, logs, ports and passwords.")
@_one_sentence
def down(state_dir: Path, wipe: bool) -> None:
    """Stop the services; their data stays for the next `up`."""
    stack = _recorded(state_dir)
    running = [name for name, service in stack.services.items() if service.is_running]
    gone = [name for name, s in stack.services.items() if s.state.server is not None and not s.is_running]
    if stack.services:
        stack.stop()
    for name in gone:
        _say(f"{name} was recorded as running, but its process had ended.")
    _OUT.print(f"Stopped {', '.join(running)}." if running else "Nothing was running.")
    if wipe and state_dir.exists():
        shutil.rmtree(state_dir)
        _OUT.print(f"Removed {state_dir}.")


def _recorded(state_dir: Path) -> Stack:
    known = state.read(state_dir)
    return Stack([name for name in SERVICES if name in known], state_dir, detached=True, report=_say)


@main.command()
@_state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_one_sentence
def status(state_dir: Path, as_json: bool) -> None:
    """Ask every service whether it answers; exit status 3 unless all of them do."""
    stack = _recorded(state_dir)
    rows = {name: _describe(service) for name, service in stack.services.items()}
    healthy = bool(rows) and all(row["status"] == "ready" for row in rows.values())
    if as_json:
        click.echo(json.dumps({"state_dir": str(stack.state_dir), "ready": healthy, "services": rows}))
    elif not rows:
        _OUT.print("Nothing was ever started here: python -m devstack up", markup=False)
    else:
        _print_rows(
            ("service", "status", "pid", "URL", "detail"),
            [(name, r["status"], str(r["pid"] or "-"), r["url"], r["detail"]) for name, r in rows.items()],
        )
    if not healthy:
        sys.exit(3)


def _describe(service: Service) -> dict[str, Any]:
    """Return a service's row for `status`; `detail` is never empty unless it is ready."""
    row = {"pid": None, "url": state.mask(service.url) if service.state.ports else "", "detail": ""}
    if service.is_running:
        row["pid"] = service.pid
        try:
            service.probe()
        except NotReadyError as silent:
            return {**row, "status": "silent", "detail": str(silent)}
        return {**row, "status": "ready"}
    if service.state.server is not None:
        detail = f"process {service.state.server.pid} is gone: `up` starts it again; log: {service.log_path}"
        return {**row, "status": "gone", "detail": detail}
    return {**row, "status": "down", "detail": "stopped: `up` starts it"}


@main.command()
@_state_dir_option
@_one_sentence
def env(state_dir: Path) -> None:
    """Print shell exports for the running services, passwords included."""
    stack = _recorded(state_dir)
    running = {name: service for name, service in stack.services.items() if service.is_running}
    if not running:
        raise DevstackError("Nothing is running: start it with `python -m devstack up`.")
    for service in running.values():
        for name, value in service.environment.items():
            click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@_one_sentence
def fetch() -> None:
    """Fetch Kafka's jars, so that the first start need not."""
    jars.find_java()
    _OUT.print(f"Kafka's jars are in {jars.fetch(_say)}")
