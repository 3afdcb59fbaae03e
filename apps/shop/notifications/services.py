"""Write to customers: a row for every notification, then the mail or text message itself."""

from collections.abc import Sequence
from enum import StrEnum
from smtplib import SMTPException, SMTPRecipientsRefused

from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from shop.notifications.models import Newsletter, Notification
from shop.notifications.rehearsal import ATTEMPT_HEADER
from shop.notifications.texting import send_text
from shop.orders.models import Customer, Order
from shop.orders.states import State


class Kind(StrEnum):
    """What a notification about an order says."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DELAYED = "delayed"

    @classmethod
    def for_closed(cls, state: str) -> "Kind":
        """Return the kind for an order that was closed."""
        return {State.REJECTED: cls.REJECTED, State.CANCELLED: cls.CANCELLED, State.EXPIRED: cls.EXPIRED}[State(state)]


SENTENCES = {
    Kind.CONFIRMED: "Your order {order} is confirmed. You pay {amount} {currency}.",
    Kind.REJECTED: "We could not accept your order {order}. {reason}",
    Kind.CANCELLED: "Your order {order} is cancelled. What you paid is on its way back.",
    Kind.EXPIRED: "Your order {order} was not paid in time and has expired.",
    Kind.DELAYED: "Your order {order} takes longer than usual. You need not do anything.",
}
BY_TEXT_TOO = frozenset({Kind.CONFIRMED})


class TryLaterError(Exception):
    """The recipient's server refused for now."""


class MailServerUnavailableError(Exception):
    """Our own mail server could not be reached or broke off."""


class RecipientRefusedError(Exception):
    """The address does not exist; trying again is useless."""


def amount(minor: int) -> str:
    """Return minor units as people write them: 1234 is `12.34`."""
    return f"{minor // 100}.{minor % 100:02d}"


def announce(order: Order, kind: Kind) -> list[Notification]:
    """Return the notifications about an order that are yet to be sent, created if they are new."""
    customer = Customer.objects.get(pk=order.customer_id)
    text = SENTENCES[kind].format(
        order=order.pk, amount=amount(order.total_minor), currency=order.currency, reason=order.reason
    )
    channels = [Notification.Channel.MAIL]
    if kind in BY_TEXT_TOO and customer.phone:
        channels.append(Notification.Channel.TEXT)
    Notification.objects.bulk_create(
        [
            Notification(
                customer=customer,
                order=order,
                channel=channel,
                kind=kind.value,
                recipient=customer.email if channel == Notification.Channel.MAIL else customer.phone,
                subject=f"Your order is {kind.value}",
                body=text,
            )
            for channel in channels
        ],
        ignore_conflicts=True,
    )
    return list(
        Notification.objects.filter(order=order, kind=kind.value, state=Notification.State.PENDING).order_by("pk")
    )


def deliver(notification_id: int, attempt: int) -> bool:
    """
    Send one notification; return False if it was sent before. `attempt` counts from 0.

    Raise TryLaterError, MailServerUnavailableError, RecipientRefusedError, and what `send_text` raises.
    """
    with transaction.atomic():
        notice = Notification.objects.select_for_update(no_key=True).get(pk=notification_id)
        if notice.state == Notification.State.SENT:
            return False
        if notice.channel == Notification.Channel.MAIL:
            _mail(notice, attempt)
        else:
            send_text(notice.recipient, notice.body, attempt=attempt)
        notice.state = Notification.State.SENT
        notice.attempts = attempt + 1
        notice.finished_at = timezone.now()
        notice.save(update_fields=["state", "attempts", "finished_at"])
        return True


def _mail(notice: Notification, attempt: int) -> None:
    message = EmailMessage(notice.subject, notice.body, to=[notice.recipient], headers={ATTEMPT_HEADER: str(attempt)})
    try:
        message.send()
    except SMTPRecipientsRefused as refusal:
        code, reply = next(iter(refusal.recipients.values()))
        kind = TryLaterError if 400 <= code < 500 else RecipientRefusedError
        raise kind(f"{code} {reply.decode(errors='replace')}") from refusal
    except (SMTPException, ConnectionError, TimeoutError) as problem:
        raise MailServerUnavailableError(str(problem)) from problem


def mark_failed(notification_id: int, problem: str) -> bool:
    """Note that a notification will not arrive; return False if it did arrive after all."""
    pending = Notification.objects.filter(pk=notification_id).exclude(state=Notification.State.SENT)
    return bool(pending.update(state=Notification.State.FAILED, problem=problem[:200], finished_at=timezone.now()))


def create_newsletter(slug: str, subject: str, body: str, audience: int) -> Newsletter:
    """Return the newsletter of that name, created if there is none."""
    newsletter, _ = Newsletter.objects.get_or_create(
        slug=slug, defaults={"subject": subject, "body": body, "audience": audience}
    )
    return newsletter


def address_newsletter(newsletter_id: int) -> Sequence[Notification]:
    """Return the newsletter's mails that are yet to be sent, created if they are new."""
    newsletter = Newsletter.objects.get(pk=newsletter_id)
    kind = f"newsletter:{newsletter.slug}"
    subscribers = Customer.objects.filter(subscribed=True, blocked=False).order_by("pk")
    # Each newsletter begins after another customer, so that small audiences are not always the same.
    count = subscribers.count()
    start = newsletter.pk * newsletter.audience % count if count else 0
    chosen = subscribers[start : start + newsletter.audience]
    Notification.objects.bulk_create(
        [
            Notification(
                customer=customer,
                channel=Notification.Channel.MAIL,
                kind=kind,
                recipient=customer.email,
                subject=newsletter.subject,
                body=newsletter.body,
            )
            for customer in chosen
        ],
        ignore_conflicts=True,
    )
    return list(Notification.objects.filter(kind=kind, state=Notification.State.PENDING).order_by("pk"))
