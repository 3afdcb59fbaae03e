"""`manage.py seed`: customers, products and suppliers for a rehearsal."""

import os
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from shop.arguments import count
from shop.demo.seeding import fill

ADMIN = "admin"


class Command(BaseCommand):
    help = "Fill the shop with a population that follows from a seed; repeat it as often as you like."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--seed", type=int, default=7, help="what the population follows from (7)")
        parser.add_argument("--customers", type=count, default=1_000, help="how many customers (1000)")
        parser.add_argument("--products", type=count, default=200, help="how many products (200)")
        parser.add_argument("--feeds-url", default="http://127.0.0.1:8090", help="where `manage.py feeds` listens")
        parser.add_argument(
            "--admin-password-from-env",
            metavar="VARIABLE",
            help=f"create the superuser {ADMIN!r} with the password that stands in this variable",
        )

    def handle(self, **options: Any) -> None:
        """Fill the tables and print what is in them."""
        if options["admin_password_from_env"]:
            self._create_admin(options["admin_password_from_env"])
        seeded = fill(options["seed"], options["customers"], options["products"], options["feeds_url"])
        self.stdout.write(f"{seeded.customers} customers, {seeded.products} products, {seeded.suppliers} suppliers")

    def _create_admin(self, variable: str) -> None:
        password = os.environ.get(variable, "")
        if not password:
            raise CommandError(f"{variable} is not set: put the password of {ADMIN!r} there.")
        users = get_user_model().objects
        if users.filter(username=ADMIN).exists():
            self.stdout.write(f"The user {ADMIN!r} exists and keeps its password.")
            return
        try:
            validate_password(password)
        except ValidationError as problem:
            raise CommandError(f"The password in {variable} is too weak: {' '.join(problem.messages)}") from problem
        users.create_superuser(ADMIN, password=password)
