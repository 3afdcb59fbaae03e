"""The project's Celery application, as the bridge finds it: two lines are new."""

import json
import os

from celery import Celery

import taskbridge

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bridged.settings")

app = Celery("bridged", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_default_queue=os.environ["BRIDGED_PREFIX"],
    broker_connection_retry_on_startup=True,
    result_extended=True,
    redis_socket_timeout=10,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    result_backend_always_retry="BRIDGED_RESULTS_ALWAYS_RETRIED" in os.environ,
    task_annotations=json.loads(os.environ.get("BRIDGED_ANNOTATIONS", "null")),
)
app.autodiscover_tasks(["bridged"])

taskbridge.install(app)
