"""`manage.py journal`: what was dispatched, what ran, and where."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from shop.arguments import positive
from shop.journal.models import Dispatch
from shop.journal.reading import account, settled
from shop.journal.reckoning import Account

SHOWN = 20
LOOK_EVERY = 0.5


class Command(BaseCommand):
    help = "Set every dispatch against every run; the status is 1 if a task was lost or ran twice."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="print everything as one line of JSON")
        parser.add_argument(
            "--wait", type=positive, metavar="SECONDS", help="wait until nothing is left to run, at most so long"
        )

    def handle(self, **options: Any) -> None:
        """Print the account."""
        if not settings.SHOP_JOURNAL and not Dispatch.objects.exists():
            raise CommandError("The journal is empty and switched off: set SHOP_JOURNAL=1 for every process.")
        deadline = time.monotonic() + (options["wait"] or 0)
        while time.monotonic() < deadline and not settled():
            time.sleep(LOOK_EVERY)
        found = account()
        if options["json"]:
            self.stdout.write(json.dumps(found.as_dict()))
        else:
            self._print(found)
        if not found.ok:
            raise SystemExit(1)

    def _print(self, found: Account) -> None:
        columns = list(found.lines[0].__dict__) if found.lines else ["task"]
        table = Table()
        for name in columns:
            table.add_column(name.replace("_", " "), justify="left" if name in {"task", "side"} else "right")
        for line in found.lines:
            table.add_row(*(str(getattr(line, name)) for name in columns))
        console = Console(file=self.stdout, width=None if self.stdout.isatty() else 160)
        console.print(table)
        for title, ids in (
            ("never ran", found.never_ran),
            ("ran more than once", found.ran_more_than_once),
            ("still running", found.running),
            ("published more than once", found.published_more_than_once),
            ("ran without a dispatch on record", found.not_dispatched),
        ):
            if ids:
                console.print(f"{title}: {len(ids)}")
                for label in ids[:SHOWN]:
                    console.print(f"  {label}", highlight=False)
                if len(ids) > SHOWN:
                    console.print(f"  and {len(ids) - SHOWN} more; --json names them all")
        console.print("ok" if found.ok else "not ok: a task was lost or ran more than once")
