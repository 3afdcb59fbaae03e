"""The Celery application."""

import os

from celery import Celery

import taskbridge

app = Celery("soaked", include=["soaked.tasks"])
app.conf.broker_url = os.environ["REDIS_URL"]
app.conf.task_default_queue = os.environ["SOAKED_PREFIX"]
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True
taskbridge.install(app)
