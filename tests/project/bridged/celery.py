"""The project's Celery application; the bridge is added to it in one line, and one that imports it."""

import json
import os
from typing import Any

from celery import Celery

import taskbridge

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bridged.settings")

PLAIN = "BRIDGED_PLAIN" in os.environ
"""Leave the bridge out: what Celery does by itself is what the bridge is compared with."""


def configure(app: Celery) -> Any:
    """Configure an application of the project."""
    app.conf.update(
        broker_url=os.environ["REDIS_URL"],
        result_backend=os.environ["REDIS_URL"],
        task_default_queue=os.environ["BRIDGED_PREFIX"],
        # Workers of other projects on the same Redis, of the same name, are neither asked nor told.
        control_exchange=os.environ.get("BRIDGED_CONTROL", os.environ["BRIDGED_PREFIX"]),
        accept_content=json.loads(os.environ.get("BRIDGED_ACCEPTS", '["json"]')),
        broker_connection_retry_on_startup=True,
        result_extended=True,
        redis_socket_timeout=10,
        broker_transport_options=json.loads(os.environ.get("BRIDGED_TRANSPORT", "{}")),
        worker_cancel_long_running_tasks_on_connection_loss=True,
        result_backend_always_retry="BRIDGED_RESULTS_ALWAYS_RETRIED" in os.environ,
        task_annotations=json.loads(os.environ.get("BRIDGED_ANNOTATIONS", "null")),
        beat_schedule=json.loads(os.environ.get("BRIDGED_BEAT", "{}")),
    )
    return app


app = configure(Celery("bridged"))
app.autodiscover_tasks(["bridged"])
app.autodiscover_tasks(["bridged"], related_name="witnesses")
app.autodiscover_tasks(["bridged"], related_name="turns")
app.autodiscover_tasks(["bridged"], related_name="once_tasks")

if not PLAIN:
    taskbridge.install(app)
