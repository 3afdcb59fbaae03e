"""The shop's Celery app."""

import os
from pathlib import Path

from celery import Celery

import taskbridge
from shop import heartbeat

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.config.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

if os.environ.get("SHOP_WORKER_STATE"):
    heartbeat.install(app, Path(os.environ["SHOP_WORKER_STATE"]))

# Where no Kafka is configured the shop is plain Celery.
if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
    taskbridge.install(app)
