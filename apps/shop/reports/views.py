"""The HTTP API of reports."""

from datetime import date
from uuid import UUID

from celery import states
from celery.exceptions import TimeoutError as ResultTimeoutError
from celery.result import AsyncResult
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse

from shop.reports.models import ReportRequest
from shop.reports.workflow import request_totals
from shop.web.api import BadRequestError, body, error, json_view, only, text

LONGEST_WAIT = 10.0


@json_view("POST")
def create(request: HttpRequest) -> HttpResponse:
    """Ask for one day's totals: 202 with the id to fetch them by."""
    content = body(request)
    only(content, "day")
    try:
        day = date.fromisoformat(text(content, "day", 10))
    except ValueError:
        raise BadRequestError("day must be a date such as 2026-03-31.") from None
    with transaction.atomic():
        asked = request_totals(day)
    return JsonResponse({"id": str(asked.pk), "day": day.isoformat()}, status=202)


@json_view("GET")
def read(request: HttpRequest, report_id: UUID) -> HttpResponse:
    """Return totals that were asked for: 200 with them, 202 while they are not there yet."""
    asked = ReportRequest.objects.filter(pk=report_id).first()
    if asked is None:
        return error(404, "There is no such report.")
    result = AsyncResult(str(report_id))
    try:
        totals = result.get(timeout=_wait(request), propagate=False)
    except ResultTimeoutError:
        return JsonResponse({"id": str(report_id), "state": "pending"}, status=202)
    if result.state != states.SUCCESS:
        return error(500, "The report could not be computed.")
    return JsonResponse({"id": str(report_id), "state": "ready", "totals": totals})


def _wait(request: HttpRequest) -> float:
    try:
        wait = float(request.GET.get("wait", "0.05"))
    except ValueError:
        wait = -1.0
    if not 0 < wait <= LONGEST_WAIT:
        raise BadRequestError(f"wait must be a number of seconds, at most {LONGEST_WAIT:.0f}.")
    return wait
