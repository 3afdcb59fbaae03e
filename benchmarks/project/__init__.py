"""The project that is measured: one no-op task, an application as Celery knows it, and one with the bridge."""
