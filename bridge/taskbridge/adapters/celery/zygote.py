"""
Loads the application once, in the fork server, before executors are forked from it.

Importing this module is what loads: the fork server imports it because it was asked to preload it. It stands where
Celery's main worker process stands: `worker_init` is sent here, `worker_process_init` in each executor.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from typing import Any

from celery import signals
from celery.app.utils import find_app
from celery.utils.nodenames import gethostname

from taskbridge.adapters.celery.side import mark_kafka

APP_VARIABLE = "TASKBRIDGE_WORKER_APP"
HOSTNAME_VARIABLE = "TASKBRIDGE_WORKER_HOSTNAME"

app: Any = None
hostname = os.environ.get(HOSTNAME_VARIABLE) or gethostname()
failure = ""
"""Why the application could not be loaded; executors report it and end."""


class WorkerIdentity:
    """What receivers of `worker_init` ask of the worker that sends it."""

    pool_cls = "celery.concurrency.prefork:TaskPool"

    def __init__(self, application: Any) -> None:
        self.app = application
        self.hostname = hostname


def load(name: str) -> Any:
    """Import the Celery application called `name`, and its task modules, as a Celery worker does."""
    mark_kafka()
    found = find_app(name)
    found.set_current()
    found.set_default()
    found.log.setup(
        loglevel=os.environ.get("TASKBRIDGE_WORKER_LOGLEVEL", "WARNING"), redirect_stdouts=False, hostname=hostname
    )
    signals.worker_init.send(sender=WorkerIdentity(found))
    found.loader.init_worker()
    found.finalize()
    return found


def leave_to_supervisor(_signum: int, _frame: Any) -> None:
    """
    Handle SIGTERM by doing nothing: whoever sends it to all processes at once means the supervisor, which drains.

    A handler rather than SIG_IGN, which programs that tasks start would inherit.
    """


if APP_VARIABLE in os.environ:
    signal.signal(signal.SIGTERM, leave_to_supervisor)
    try:
        app = load(os.environ[APP_VARIABLE])
    except Exception as error:  # noqa: BLE001 - user code: whatever it is, the worker must be able to say it
        failure = f"the application {os.environ[APP_VARIABLE]} could not be loaded: {type(error).__name__}: {error}"
        logging.getLogger(__name__).debug("%s", traceback.format_exc())
        if os.environ.get("TASKBRIDGE_WORKER_LOGLEVEL", "").upper() == "DEBUG":
            traceback.print_exc(file=sys.stderr)
