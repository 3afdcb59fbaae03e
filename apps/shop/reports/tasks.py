"""Background work of reports."""

from datetime import date, timedelta
from typing import Any

from celery import current_app, shared_task
from django.utils import timezone

from shop.reports import services


@shared_task(soft_time_limit=120, time_limit=150)
def compute_totals(day: str) -> list[dict[str, Any]]:
    """Compute one day's totals and return them, a row per currency; `day` is like 2026-03-31."""
    return [
        {
            "day": day,
            "currency": total.currency,
            "placed": total.placed,
            "confirmed": total.confirmed,
            "revenue_minor": total.revenue_minor,
            "refunded_minor": total.refunded_minor,
        }
        for total in services.compute_day(date.fromisoformat(day))
    ]


@shared_task(acks_late=True)
def nightly_totals() -> str:
    """Compute yesterday's totals and have them mailed."""
    day = (timezone.now() - timedelta(days=1)).date().isoformat()
    (compute_totals.si(day) | mail_totals.s(day)).apply_async()
    return day


@shared_task(ignore_result=True)
def mail_totals(totals: list[dict[str, Any]], day: str) -> None:
    """Have a day's totals mailed to the people who run the shop."""
    lines = [
        f"{row['currency']}: {row['confirmed']} of {row['placed']} orders confirmed, {row['revenue_minor']} minor units"
        for row in totals
    ]
    current_app.send_task("shop.notifications.tasks.send_digest", (f"Totals of {day}", lines or ["No orders."]))
