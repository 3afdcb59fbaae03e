"""
Move Celery task dispatch onto Apache Kafka, one service at a time.

    app = Celery("shop")
    taskbridge.install(app)

The names exported here are the public interface; everything else may change between minor versions.
"""

from __future__ import annotations

from typing import Any

from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.adapters.celery.side import current_side
from taskbridge.dispatch.barrier import barrier
from taskbridge.exceptions import MessageTooLarge, TaskbridgeError

__version__ = "0.1.0"

__all__ = ["MessageTooLarge", "TaskOptions", "TaskbridgeError", "__version__", "barrier", "current_side", "install"]


def install(app: Any) -> None:
    """
    Put the bridge into a Celery app: at any time before its first publish, and once however often it is called.

    `TASKBRIDGE` in Django's settings says what is to be moved; it is read at the first dispatch, so this may be called
    where the app is made. Raises ConfigurationError when the versions of Python, Celery or Django are not supported.
    """
    # Not at the top: models may only be imported once Django knows its applications.
    from taskbridge.contrib.django.wiring import install as install_bridge  # noqa: PLC0415

    install_bridge(app)
