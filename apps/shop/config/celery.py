"""The shop's Celery app."""

import os

from celery import Celery

import taskbridge

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.config.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Where no Kafka is configured the shop is plain Celery.
if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
    taskbridge.install(app)
