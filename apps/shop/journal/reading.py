"""Read the journal's tables."""

from collections.abc import Iterator

from django.db.models import Count, Exists, Max, Min, OuterRef
from django.utils import timezone

from shop.journal.models import Dispatch, Run
from shop.journal.reckoning import Account, Dispatched, Key, Ran, reckon

KEY = ("task_id", "retries", "replaced_task_nesting")


def settled() -> bool:
    """
    Tell whether everything that was dispatched has run to its end; cheaper than an account.

    A run that was cut off with its process never ends, but its task does when it has run again.
    """
    same = {name: OuterRef(name) for name in KEY}
    ended = Exists(Run.objects.filter(**same, finished_at__isnull=False))
    if Run.objects.filter(~ended, finished_at=None).exists():
        return False
    return not Dispatch.objects.filter(~Exists(Run.objects.filter(**same))).exists()


def account() -> Account:
    """Return the account of everything in the journal, as it stands now."""
    # Runs are read last, so that a task that starts in between counts as having run.
    dispatched = list(_dispatched())
    return reckon(dispatched, _ran(), timezone.now())


def _dispatched() -> Iterator[Dispatched]:
    rows = Dispatch.objects.order_by().values_list(*KEY).annotate(Min("task"), Count("pk"), Max("not_before"))
    for *key, task, times, not_before in rows.iterator(chunk_size=5_000):
        yield Dispatched(Key(*key), task, times, not_before)


def _ran() -> Iterator[Ran]:
    rows = Run.objects.order_by().values_list(*KEY, "task", "side", "finished_at", "state")
    for *key, task, side, finished_at, state in rows.iterator(chunk_size=5_000):
        yield Ran(Key(*key), task, side, finished_at is not None, state)
