"""`manage.py traffic`: people use the shop."""

import json
import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shop.arguments import positive
from shop.demo.actions import plan
from shop.demo.doors import Functions, Http, UnexpectedAnswerError
from shop.demo.pace import Door, Summary, run
from shop.demo.seeding import population_size


class Command(BaseCommand):
    help = "Use the shop as people would: place orders, cancel, restock, send newsletters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--rate", type=positive, default=10.0, help="actions per second (10)")
        parser.add_argument("--seconds", type=positive, default=30.0, help="how long (30)")
        parser.add_argument("--seed", type=int, default=7, help="what the sequence of actions follows from (7)")
        parser.add_argument("--label", help="prefix of this run's keys; the same label repeats the same orders")
        parser.add_argument("--url", help="go over the HTTP API at this address, with the first of SHOP_API_TOKENS")
        parser.add_argument("--json", action="store_true", help="print the summary as one line of JSON")

    def handle(self, **options: Any) -> None:
        """Perform the actions and print the summary."""
        label = options["label"] or f"run-{secrets.token_hex(4)}"
        customers, products = population_size()
        if not customers or not products:
            raise CommandError("The shop is empty: run `manage.py seed` first.")
        actions = plan(options["seed"], customers, products)
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        with progress:
            bar = progress.add_task("actions", total=round(options["rate"] * options["seconds"]))
            try:
                summary = run(
                    actions,
                    _door(label, options["url"]),
                    options["rate"],
                    options["seconds"],
                    on_progress=lambda performed: progress.update(bar, completed=performed),
                )
            except UnexpectedAnswerError as problem:
                raise CommandError(f"Traffic stopped: {problem}.") from problem
        self._report(summary, label, as_json=options["json"])

    def _report(self, summary: Summary, label: str, *, as_json: bool) -> None:
        if not summary.kept_up:
            self.stderr.write(
                f"The rate of {summary.rate:g} actions/s could not be kept: {summary.achieved:.1f}/s were "
                f"performed, up to {summary.most_behind:.1f} s behind. Lower --rate, or use a larger machine."
            )
        if summary.interrupted:
            self.stderr.write("Interrupted.")
        if as_json:
            content = {
                "label": label,
                "planned": summary.planned,
                "performed": summary.performed,
                "seconds": round(summary.seconds, 3),
                "rate": summary.rate,
                "achieved": round(summary.achieved, 2),
                "most_behind": round(summary.most_behind, 3),
                "kept_up": summary.kept_up,
                "interrupted": summary.interrupted,
                "outcomes": dict(sorted(summary.outcomes.items())),
            }
            self.stdout.write(json.dumps(content))
            return
        for outcome, count in sorted(summary.outcomes.items()):
            self.stdout.write(f"{outcome:<28}{count:>8}")
        self.stdout.write(
            f"{summary.performed} of {summary.planned} actions in {summary.seconds:.1f} s "
            f"({summary.achieved:.1f}/s) as {label}"
        )


def _door(label: str, url: str | None) -> Door:
    if url is None:
        return Functions(label)
    if not settings.SHOP_API_TOKENS:
        raise CommandError("SHOP_API_TOKENS is not set: the HTTP API accepts nobody without a token.")
    return Http(label, url, settings.SHOP_API_TOKENS[0])
