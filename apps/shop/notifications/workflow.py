"""Set newsletters going."""

from datetime import timedelta

from django.utils import timezone

from shop.notifications import services
from shop.notifications.models import Newsletter
from shop.notifications.tasks import send_newsletter

LATEST = timedelta(minutes=30)
"""How late a newsletter may still go out."""


def schedule_newsletter(slug: str, subject: str, body: str, audience: int, wait: float) -> Newsletter:
    """Create a newsletter and have it sent in `wait` seconds, or never if that becomes much later."""
    newsletter = services.create_newsletter(slug, subject, body, audience)
    when = timezone.now() + timedelta(seconds=wait)
    send_newsletter.apply_async((newsletter.pk,), eta=when, expires=when + LATEST)
    return newsletter
