"""Celery: the hook that diverts dispatches, what its workers report, and sending back."""
