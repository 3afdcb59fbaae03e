"""The application as Celery knows it."""

from benchmarks.project.apps import application

app = application("plain")
