"""The project: settings, the Celery app, URLs."""

# Tasks declared with @shared_task bind to this app in every process, also in web processes.
from shop.config.celery import app as celery_app

__all__ = ["celery_app"]
