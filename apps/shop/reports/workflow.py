"""Set reports going."""

from datetime import date
from uuid import uuid4

from shop.reports.models import ReportRequest
from shop.reports.tasks import compute_totals

SOMEBODY_WAITS = 3


def request_totals(day: date) -> ReportRequest:
    """Ask for one day's totals, ahead of the reports that nobody waits for."""
    asked = ReportRequest.objects.create(task_id=uuid4(), day=day)
    compute_totals.apply_async_on_commit((day.isoformat(),), task_id=str(asked.pk), priority=SOMEBODY_WAITS)
    return asked
