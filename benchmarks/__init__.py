"""What the bridge costs and what its worker does, measured beside plain Celery on the same machine in the same run."""
