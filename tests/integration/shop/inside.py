"""
Run tests in a process where Django is set up for the shop.

Django can be set up once per process, and this one may need it for something else.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any


def inside_shop(test: Callable[[], None]) -> Callable[[Any], None]:
    """Return a test that runs `test`, which takes no fixtures, in the shop's process."""

    def outside(shop_process: Any) -> None:
        shop_process.submit(perform, test.__module__, test.__name__).result()

    outside.__name__, outside.__doc__, outside.__module__ = test.__name__, test.__doc__, test.__module__
    outside.body = test
    return outside


def perform(module: str, name: str) -> None:
    """Run a decorated test's body; called in the shop's process."""
    getattr(importlib.import_module(module), name).body()


def set_up(environ: dict[str, str]) -> None:
    """Set Django up; called once in the shop's process."""
    os.environ.clear()
    os.environ.update(environ)
    import django

    django.setup()
