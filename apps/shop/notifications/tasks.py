"""Background work of notifications."""

from typing import Any

from celery import group, shared_task
from celery.canvas import Signature
from celery.result import AsyncResult
from django.core.mail import mail_admins

from shop.notifications import services
from shop.notifications.models import Notification
from shop.notifications.texting import ProviderBusyError, UnknownNumberError

GREYLISTING_WAIT = 2.0
"""Seconds after which a greylisted mail is tried again, doubled with every attempt."""


@shared_task(
    bind=True,
    acks_late=True,
    max_retries=4,
    autoretry_for=(services.MailServerUnavailableError,),
    retry_backoff=2,
    retry_backoff_max=120,
    throws=(services.RecipientRefusedError,),
    ignore_result=True,
    store_errors_even_if_ignored=True,
    soft_time_limit=20,
    time_limit=30,
)
def deliver_mail(self: Any, notification_id: int) -> bool:
    """Send one mail."""
    attempt = self.request.retries
    try:
        return services.deliver(notification_id, attempt)
    except services.TryLaterError as refusal:
        raise self.retry(exc=refusal, countdown=GREYLISTING_WAIT * 2**attempt) from refusal


@shared_task(
    bind=True,
    autoretry_for=(ProviderBusyError,),
    retry_backoff=1,
    retry_backoff_max=30,
    retry_jitter=True,
    max_retries=5,
    throws=(UnknownNumberError,),
    ignore_result=True,
    store_errors_even_if_ignored=True,
    soft_time_limit=10,
    time_limit=15,
)
def deliver_text(self: Any, notification_id: int) -> bool:
    """Send one text message."""
    return services.deliver(notification_id, self.request.retries)


@shared_task(acks_late=True)
def mark_failed(failed_task_id: str, *, notification_id: int) -> bool:
    """Note that a notification could not be delivered, and why."""
    return services.mark_failed(notification_id, str(AsyncResult(failed_task_id).result or "unknown"))


def delivery(notice: Notification) -> Signature:
    """Return the task that sends a notification and notes its failure."""
    task = deliver_mail if notice.channel == Notification.Channel.MAIL else deliver_text
    return task.si(notice.pk).on_error(mark_failed.s(notification_id=notice.pk))


@shared_task(ignore_result=True, soft_time_limit=60, time_limit=90)
def send_newsletter(newsletter_id: int) -> int:
    """Send a newsletter to its subscribers, each mail a task of its own."""
    notices = services.address_newsletter(newsletter_id)
    if notices:
        group(delivery(notice) for notice in notices).apply_async()
    return len(notices)


@shared_task(ignore_result=True)
def send_digest(subject: str, lines: list[str]) -> None:
    """Mail a few lines to the people who run the shop."""
    mail_admins(subject, "\n".join(lines))
