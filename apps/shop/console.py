"""The command line of the shop: Django's, with a sentence where a server is out of reach."""

import os
import sys
from collections.abc import Sequence

from kombu.exceptions import OperationalError as BrokerUnreachable


def run(argv: Sequence[str]) -> int:
    """Run one management command; return the status to exit with."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.config.settings")
    # Django reads the settings when these are imported: only now is it known which ones.
    from django.core.management import execute_from_command_line  # noqa: PLC0415
    from django.db.utils import OperationalError as DatabaseUnreachable  # noqa: PLC0415

    try:
        execute_from_command_line(list(argv))
    except DatabaseUnreachable as problem:
        reason = str(problem).strip().splitlines()[0]
        return _say(f"the database does not answer ({reason}): check DATABASE_URL and that PostgreSQL runs.")
    except BrokerUnreachable as problem:
        return _say(f"the broker does not answer ({problem}): check REDIS_URL and that Redis runs.")
    return 0


def _say(sentence: str) -> int:
    sys.stderr.write(f"shop: {sentence}\n")
    return 1
