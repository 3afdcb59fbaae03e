"""The system that is left running to look around in: `up` and `down`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.story import MOVING
from demo.system import KEPT, ROOT, DemoError, System, adopted, shop_environment
from devstack import Stack
from devstack.process import ProcessId

DIRECTORY = ROOT / "var" / "demo"
STATE = DIRECTORY / "state.json"


def up(console: Console, seed: int, port: int) -> None:
    """
    Start everything, detached, and print the addresses.

    Raises DemoError when it runs already or does not start; then nothing is left running.
    """
    if STATE.exists():
        raise DemoError(f"the demo system runs already, or did; `make down` ends it (its state is in {STATE})")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    stack = Stack(state_dir=DIRECTORY / "servers", detached=True, report=lambda text: console.print(f"[dim]{text}[/]"))
    stack.start()
    environment = shop_environment(stack.environment, DIRECTORY)
    password = secrets.token_urlsafe(12)
    system = System(environment, DIRECTORY, owner=None)
    try:
        system.manage("migrate", "--verbosity", "0")
        system.environment["SHOP_ADMIN_PASSWORD"] = password
        system.manage("seed", "--seed", str(seed), "--admin-password-from-env", "SHOP_ADMIN_PASSWORD")
        del system.environment["SHOP_ADMIN_PASSWORD"]
        system.run("taskbridge.cli", "topics")
        system.start("web", "gunicorn", "shop.config.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "2")
        ready = [(system.start_celery(), " ready.")]
        system.start("beat", "celery", "-A", "shop.config.celery", "beat", "-s", str(DIRECTORY / "beat-schedule"))
        for service in MOVING:
            ready += [(system.start_worker(service, role), "worker ready") for role in ("live", "shadow")]
        system.start("relay", "taskbridge.cli", "relay")
        for part, text in ready:
            part.wait_until(text)
    except BaseException:
        system.stop()
        stack.stop()
        raise
    _write(system)
    _print(console, system, port, password)


def down(console: Console) -> None:
    """End every process that `up` recorded, stop the servers, and remove the data; harmless when nothing runs."""
    if STATE.exists():
        pids = {
            name: (ProcessId(**guard), ProcessId(**server))
            for name, (guard, server) in json.loads(STATE.read_text())["processes"].items()
        }
        system = System({}, DIRECTORY, owner=None)
        system.parts = adopted(pids, DIRECTORY)
        system.stop()
    Stack(state_dir=DIRECTORY / "servers", detached=True).stop()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    console.print("Everything is stopped.")


def _write(system: System) -> None:
    processes = {name: [asdict(part.server.guard), asdict(part.server.server)] for name, part in system.parts.items()}
    exports = "".join(
        f"export {name}='{value}'\n" for name, value in sorted(system.environment.items()) if name not in KEPT
    )
    for path, text in ((STATE, json.dumps({"processes": processes})), (DIRECTORY / "environment", exports)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)


def _print(console: Console, system: System, port: int, password: str) -> None:
    table = Table("what", "where", box=None, pad_edge=False)
    table.add_row("shop", f"http://127.0.0.1:{port}/api/products/")
    table.add_row("admin", f"http://127.0.0.1:{port}/admin/   admin / {password}")
    token = f"{_shown(DIRECTORY)}/api-tokens/you"
    table.add_row("bridge API", f"http://127.0.0.1:{port}/bridge/api/cutovers   bearer token in {token}")
    table.add_row("Kafka", system.environment["KAFKA_BOOTSTRAP_SERVERS"])
    table.add_row("logs", f"{_shown(DIRECTORY)}/*.log")
    console.print(table)
    console.print(
        f"\nWith the virtual environment active, `. {_shown(DIRECTORY)}/environment`, then for example:\n"
        "  python manage.py traffic --rate 5 --seconds 60\n"
        "  taskbridge status\n"
        "  taskbridge cutover notifications mirror\n"
        "  taskbridge report notifications\n"
        "`make down` ends it.",
        markup=False,
        highlight=False,
    )


def _shown(path: Path) -> str:
    return os.path.relpath(path)
