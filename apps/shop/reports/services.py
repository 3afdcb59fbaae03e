"""Add days up."""

from datetime import UTC, date, datetime, time, timedelta

from django.db import transaction
from django.db.models import Count, Q, Sum
from django.utils import timezone

from shop.orders.models import Order
from shop.orders.states import State
from shop.payments.models import Payment
from shop.reports.models import DailyTotal


def compute_day(day: date) -> list[DailyTotal]:
    """Return one day's totals in UTC, a row per currency, computed anew."""
    start = datetime.combine(day, time.min, UTC)
    end = start + timedelta(days=1)
    orders = (
        Order.objects.filter(placed_at__gte=start, placed_at__lt=end)
        .values("currency")
        .annotate(
            placed=Count("pk"),
            confirmed=Count("pk", filter=Q(state=State.CONFIRMED.value)),
            revenue=Sum("total_minor", filter=Q(state=State.CONFIRMED.value), default=0),
        )
    )
    refunds = dict(
        Payment.objects.filter(refunded_at__gte=start, refunded_at__lt=end)
        .values_list("currency")
        .annotate(Sum("amount_minor"))
    )
    found = {row["currency"]: row for row in orders}
    with transaction.atomic():
        DailyTotal.objects.filter(day=day).delete()
        return DailyTotal.objects.bulk_create(
            DailyTotal(
                day=day,
                currency=currency,
                placed=found.get(currency, {}).get("placed", 0),
                confirmed=found.get(currency, {}).get("confirmed", 0),
                revenue_minor=int(found.get(currency, {}).get("revenue", 0)),
                refunded_minor=int(refunds.get(currency, 0)),
                computed_at=timezone.now(),
            )
            for currency in sorted(found.keys() | refunds.keys())
        )
