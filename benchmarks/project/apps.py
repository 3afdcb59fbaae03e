"""How both applications are made, so that they differ in nothing but the bridge."""

from __future__ import annotations

import os

from celery import Celery


def application(name: str) -> Celery:
    """Return an application with its own queue, called `name`, on the Redis of `REDIS_URL`."""
    app = Celery(name, broker=os.environ["REDIS_URL"], include=["benchmarks.project.tasks"])
    app.conf.update(task_default_queue=name, broker_connection_retry_on_startup=True)
    return app
