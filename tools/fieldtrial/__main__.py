"""`python -m fieldtrial`: scan Mayan EDMS, change four lines of it, mirror it, and compare."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from devstack import DevstackError, Stack
from fieldtrial.installed import TrialError, install
from fieldtrial.mayan import QUEUES, TRAFFIC, WAITING, Mayan, wait_for

MOST_LINES = 5
"""Lines of Mayan's that may be changed."""

INSUFFICIENT = 3
"""Exit status of a report on a service of which nothing was dispatched."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--documents", default=20, show_default=True, help="Documents that are uploaded.")
@click.option("--keep", is_flag=True, help="Keep the folder with logs and documents also when all went well.")
def main(documents: int, keep: bool) -> None:
    """
    Try the bridge on Mayan EDMS, a document management system with some 70 Celery tasks.

    Everything happens in a folder of its own, on servers of its own. The installed Mayan is kept in the user's cache.

    \b
    Exit status: 0 every service that was used agrees; 1 one does not; 2 something could not be started.

    \b
    Examples:
      python -m fieldtrial
      python -m fieldtrial --documents 200 --keep
    """
    console = Console(soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="fieldtrial-"))
    began = time.monotonic()
    try:
        python = install(console.print)
        with Stack(report=console.print) as stack:
            mayan = Mayan(python, folder, stack.environment)
            try:
                agrees = _tell(mayan, console, documents)
            finally:
                mayan.stop()
    except (TrialError, DevstackError) as error:
        console.print(f"[red]The trial could not go on:[/] {error}\nLogs: {folder}", highlight=False)
        sys.exit(2)
    console.print(f"{time.monotonic() - began:.0f} s", highlight=False)
    if keep or not agrees:
        console.print(f"Logs: {folder}", highlight=False)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if not agrees:
        sys.exit(1)
    console.print("[bold green]ok[/]")


def _tell(mayan: Mayan, console: Console, documents: int) -> bool:
    def step(text: str) -> None:
        console.print(f"[bold]{text}[/]", highlight=False)

    step("Mayan alone: its tables")
    mayan.run("-m", "django", "migrate", "--verbosity", "0")
    step("taskbridge scan, before the bridge is part of it")
    scan = json.loads(mayan.bridge("scan", "--by", "package", "--json", accept=(0, 1)).stdout)
    totals = scan["totals"]
    console.print(
        f"  {totals['tasks']} tasks in {len(scan['services'])} services; {totals['stops']} findings stop a task, "
        f"{totals['differs']} behave differently",
        highlight=False,
    )
    step("taskbridge init, and the lines that change in Mayan")
    mayan.bridge("init", "--by", "package", "--prefix", "mayan", "--write", "mayan_bridge.py")
    changed = mayan.change()
    for line in changed:
        console.print(f"  {line}", highlight=False, markup=False)
    if len(changed) > MOST_LINES:
        raise TrialError(f"{len(changed)} lines are changed, more than {MOST_LINES}")
    mayan.run("-m", "django", "migrate", "taskbridge", "--verbosity", "0")
    step("Every service to mirror")
    for service in scan["services"]:
        mayan.bridge("cutover", service, "mirror", "--reason", "field trial")
    mayan.bridge("check")
    step(f"A Celery worker, and {documents} documents")
    queues = mayan.run("-c", QUEUES).stdout.splitlines()[-1]
    mayan.start("celery", " ready.", "-m", "celery", "-A", "mayan", "worker", "-c", "2", "-l", "INFO", "-Q", queues)
    mayan.run("-c", TRAFFIC, str(documents))
    wait_for(
        lambda: mayan.ask(WAITING) == [0, documents],
        f"{documents} documents with a version, and no task left",
        60 + 10 * documents,
    )
    mayan.end("celery")
    step("Shadow workers on what was copied, and what the reports say")
    return all([_compare(mayan, console, service) for service in scan["services"]])  # noqa: C419 - each is shown


def _compare(mayan: Mayan, console: Console, service: str) -> bool:
    first = json.loads(mayan.bridge("report", service, "--json", accept=range(5)).stdout)
    if first["exit_code"] == INSUFFICIENT and not first["services"][0]["dispatched"]:
        return True
    options = ("--service", service, "--role", "shadow", "--processes", "1")
    mayan.start("shadow", "worker ready", "-m", "taskbridge.cli", "-A", "mayan", "worker", *options)

    def is_done() -> bool:
        row = json.loads(mayan.bridge("status", service, "--json").stdout)["services"][0]
        return bool(row["lag_shadow"] and row["lag_shadow"]["complete"] and not row["lag_shadow"]["total"])

    wait_for(is_done, f"the copies of {service} to be looked at", 120)
    mayan.end("shadow")
    found = json.loads(mayan.bridge("report", service, "--horizon", "1s", "--json", accept=range(5)).stdout)
    console.print(f"  {found['services'][0]['sentence']}", highlight=False)
    return bool(found["exit_code"] == 0)


if __name__ == "__main__":
    main()
