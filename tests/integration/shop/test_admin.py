"""Large payouts wait for a person in the admin."""

from tests.integration.shop.inside import inside_shop
from tests.integration.shop.test_services import RUN, confirmed_order, new_product


def waiting_payout():
    from shop.payouts.services import create

    (payout,) = create(confirmed_order((new_product(price_minor=60_000), 2)).pk)
    assert payout.state == "awaiting"
    return payout


def staff(name, *permissions):
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    user, created = User.objects.get_or_create(username=f"{name}-{RUN}", is_staff=True)
    if created:
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return user, client


def choose(client, payout):
    return client.post(
        "/admin/payouts/payout/",
        {"action": "approve", "_selected_action": [payout.pk]},
        headers={"host": "localhost"},
        follow=True,
    )


@inside_shop
def test_a_large_payout_is_not_sent_before_it_is_approved():
    from shop.payouts.services import send

    payout = waiting_payout()
    assert send(payout.pk) == "awaiting"


@inside_shop
def test_an_approver_releases_it_and_is_on_record():
    from unittest.mock import patch

    from shop.payouts.tasks import send_payout

    payout = waiting_payout()
    user, client = staff("approver", "view_payout", "change_payout", "approve_payout")
    with patch.object(send_payout, "apply_async") as dispatched:
        answer = choose(client, payout)
    assert "1 approved" in answer.content.decode()
    dispatched.assert_called_once_with((payout.pk,), priority=0)
    payout.refresh_from_db()
    assert (payout.state, payout.approved_by_id) == ("scheduled", user.pk)
    assert payout.approved_at is not None

    with patch.object(send_payout, "apply_async") as dispatched:
        assert f"Payout {payout.pk} is scheduled" in choose(client, payout).content.decode()
    dispatched.assert_not_called()


@inside_shop
def test_without_the_permission_there_is_no_such_action():
    payout = waiting_payout()
    _, client = staff("viewer", "view_payout", "change_payout")
    assert "0 of" not in choose(client, payout).content.decode()
    payout.refresh_from_db()
    assert payout.state == "awaiting"


@inside_shop
def test_every_list_of_the_admin_opens():
    from django.contrib import admin
    from django.contrib.auth.models import User
    from django.test import Client

    waiting_payout()
    client = Client()
    client.force_login(User.objects.create_superuser(f"root-{RUN}"))
    ours = [model._meta for model in admin.site._registry if model.__module__.startswith("shop.")]
    assert len(ours) >= 14
    for meta in ours:
        path = f"/admin/{meta.app_label}/{meta.model_name}/"
        assert client.get(path, headers={"host": "localhost"}).status_code == 200, path
