"""Tasks that do nothing: one is run; the others are only dispatched, by a service in the stage of their name."""

from __future__ import annotations

from celery import shared_task

from benchmarks.tally import count


@shared_task(ignore_result=True)
def nothing() -> None:
    """Count this run."""
    count()


@shared_task(ignore_result=True)
def plain() -> None:
    """Be dispatched by an application without the bridge."""


@shared_task(ignore_result=True)
def off() -> None:
    """Be dispatched in `off`."""


@shared_task(ignore_result=True)
def mirror() -> None:
    """Be dispatched in `mirror`."""


@shared_task(ignore_result=True)
def live() -> None:
    """Be dispatched in `live`."""


@shared_task(ignore_result=True)
def barrier() -> None:
    """Be dispatched in `live`, behind a barrier."""
