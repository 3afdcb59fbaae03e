"""`manage.py feeds`: the suppliers' web server."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from shop.arguments import count
from shop.demo.feedserver import server


class Command(BaseCommand):
    help = "Serve the price feeds of the suppliers that `seed` made, with the same --seed and --products."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--seed", type=int, default=7)
        parser.add_argument("--products", type=count, default=200)
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8090, help="0 takes a free port (8090)")

    def handle(self, **options: Any) -> None:
        """Serve until Ctrl-C; the first line printed is the address."""
        try:
            http = server(options["seed"], options["products"], options["host"], options["port"])
        except (OSError, OverflowError) as problem:
            raise CommandError(f"Cannot listen on port {options['port']}: {problem}. Try --port 0.") from problem
        with http:
            self.stdout.write(f"http://{options['host']}:{http.server_port}")
            self.stdout.flush()
            try:
                http.serve_forever()
            except KeyboardInterrupt:
                self.stdout.write("Stopped.")
