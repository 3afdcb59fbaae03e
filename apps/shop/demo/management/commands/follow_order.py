"""`manage.py follow_order`: does an order come through?"""

from argparse import ArgumentParser
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from shop.arguments import count, positive
from shop.demo.following import NotConfirmedError, follow


class Command(BaseCommand):
    help = "Place an order over HTTP with the first of SHOP_API_TOKENS, and wait until it is confirmed."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--url", required=True, help="where the shop is, such as http://localhost:8000")
        parser.add_argument("--customer", default="C000001", help="who orders (C000001)")
        parser.add_argument("--sku", default="P00001", help="which product (P00001)")
        parser.add_argument("--quantity", type=count, default=1, help="how many pieces (1)")
        parser.add_argument("--timeout", type=positive, default=60.0, help="seconds until it must be confirmed (60)")

    def handle(self, **options: Any) -> None:
        """Print each state as it is reached; fail when the order is not confirmed in time."""
        if not settings.SHOP_API_TOKENS:
            raise CommandError("SHOP_API_TOKENS is not set: the HTTP API accepts nobody without a token.")
        if not options["url"].startswith(("http://", "https://")):
            raise CommandError(f"--url is {options['url']!r}: give it as in http://localhost:8000.")
        headers = {"Authorization": f"Bearer {settings.SHOP_API_TOKENS[0]}"}
        lines = [(options["sku"], options["quantity"])]
        with httpx.Client(base_url=options["url"], headers=headers, timeout=10, trust_env=False) as client:
            try:
                for seen in follow(client, options["customer"], lines, options["timeout"]):
                    self.stdout.write(f"{seen.seconds:6.1f} s  {seen.state}")
                    self.stdout.flush()
            except (NotConfirmedError, httpx.InvalidURL) as problem:
                raise CommandError(f"The order did not come through: {problem}") from problem
