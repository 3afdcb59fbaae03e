"""The bridge's pages in the shop's admin, and its API beside the shop's own."""

import secrets
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import httpx
import pytest

from tests.integration.shop.conftest import Shop, wait_until
from tests.integration.shop.inside import inside_shop, set_up

TOKEN = secrets.token_hex(20)
LIST = "/admin/taskbridge/serviceflag/"


@pytest.fixture(scope="module")
def bridged_shop(shop, kafka_bootstrap, tmp_path_factory):
    """The shop with Kafka configured; its services are its own tests'."""
    tokens = tmp_path_factory.mktemp("tokens")
    (tokens / "operator").write_text(TOKEN)
    environ = {
        **shop.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "SHOP_TOPIC_PREFIX": f"shop-{secrets.token_hex(5)}",
        "SHOP_BRIDGE_TOKENS": str(tokens),
    }
    return Shop(environ, tmp_path_factory.mktemp("bridged-shop"))


@pytest.fixture(scope="module")
def shop_process(bridged_shop):
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=set_up, initargs=(bridged_shop.environ,)
    ) as pool:
        yield pool


def client(*permissions, superuser=False):
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    name = f"staff-{secrets.token_hex(4)}"
    if superuser:
        user = User.objects.create_superuser(name)
    else:
        user = User.objects.create(username=name, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    browser = Client(headers={"host": "localhost"}, enforce_csrf_checks=True)
    browser.force_login(user)
    return user, browser


def mover():
    return client("move_service", "view_transition")


def page(browser, path, **data):
    answer = browser.get(path, data, follow=True)
    assert answer.status_code == 200, path
    return " ".join(answer.content.decode().split())


def send(browser, service, **fields):
    """Confirm a transition as the page does that shows it."""
    shown = browser.get(f"{LIST}{service}/move/", fields, follow=True)
    token = browser.cookies["csrftoken"].value if "csrftoken" in browser.cookies else ""
    answer = browser.post(f"{LIST}{service}/move/", {**fields, "csrfmiddlewaretoken": token}, follow=True)
    assert answer.status_code == 200
    return " ".join(shown.content.decode().split()), " ".join(answer.content.decode().split())


def expect(words, text):
    """Say what stands on the page, since these tests run where pytest does not explain an assertion."""
    content = text.partition('id="content-start"')[2] or text
    assert words in text, content[:4000]


def stage(service):
    from taskbridge.contrib.django.site import site_bridge

    states = site_bridge().store.flag_states()
    return str(states[service].flag.stage) if service in states else "off"


@inside_shop
def test_every_service_is_listed_also_those_that_never_moved():
    _, browser = mover()
    text = page(browser, LIST)
    assert text.partition('id="services"')[2].count("<tr>") == 9
    expect(f'<a href="{LIST}reports/change/">reports</a></th> <td>off</td> <td>0</td> <td></td> <td>never</td>', text)


@inside_shop
def test_a_service_goes_step_by_step_and_back_with_confirmation():
    user, browser = mover()
    text = page(browser, f"{LIST}orders/change/")
    expect(f'href="{LIST}orders/move/?stage=mirror&amp;epoch=0">Forward: mirror</a>', text)
    shown, done = send(browser, "orders", stage="mirror", epoch="0", reason="to compare")
    expect("<strong>orders</strong> would go from <strong>off</strong> to <strong>mirror</strong>", shown)
    expect("nobody holds it", shown)
    expect("Kafka would get: topic shop-", shown)
    expect("orders went from off to mirror.", done)
    expect(f"admin:{user.username}", done)
    expect("to compare", done)

    # Nothing is known of it, and no worker runs: a person may decide otherwise, with a reason.
    text = page(browser, f"{LIST}orders/move/", stage="live", percent="1")
    assert text.count('<td class="tb-no">NO</td>') == 2
    assert text.count("(may be overridden)") == 2
    _, done = send(browser, "orders", stage="live", percent="1", epoch="1")
    expect("orders cannot go to live 1%: INSUFFICIENT", done)
    assert stage("orders") == "mirror"
    _, done = send(browser, "orders", stage="live", percent="1", epoch="1", override="1")
    expect("an override needs a reason", done)
    _, done = send(browser, "orders", stage="live", percent="1", epoch="1", override="1", reason="seen enough")
    expect("orders went from mirror to live 1%.", done)
    expect("INSUFFICIENT overridden", done)

    shown, done = send(browser, "orders", stage="mirror", epoch="2")
    expect("Nothing stands against it", shown)
    expect("orders went from live 1% to mirror.", done)


@inside_shop
def test_who_is_overtaken_is_told():
    _, browser = mover()
    send(browser, "fraud", stage="mirror", epoch="0")
    _, done = send(browser, "fraud", stage="off", epoch="0")
    expect("Nothing was done: fraud was moved meanwhile", done)
    assert stage("fraud") == "mirror"


@inside_shop
def test_hold_release_and_kill():
    _, browser = mover()
    send(browser, "payments", stage="mirror")
    _, done = send(browser, "payments", action="hold", reason="sale")
    expect("payments is held at mirror.", done)
    shown = page(browser, f"{LIST}payments/move/", stage="live", percent="1")
    expect("cannot be overridden", shown)
    expect("payments is held by admin:", shown)
    assert "<form" not in shown.partition('id="content-main"')[2]
    assert "payments went from mirror to off." in send(browser, "payments", action="kill")[1]
    assert "payments is released at off." in send(browser, "payments", action="release")[1]
    assert "there is nothing to do" in page(browser, f"{LIST}payments/move/", action="kill")


@inside_shop
def test_one_task_apart_from_its_service():
    _, browser = mover()
    task = "shop.notifications.tasks.send_newsletter"
    assert f'<option value="{task}">' in page(browser, f"{LIST}notifications/change/")
    _, done = send(browser, "notifications", stage="mirror", task=task)
    expect(f"{task} went from off (as notifications is) to mirror.", done)
    assert f"{task}: mirror" in page(browser, LIST)
    _, done = send(browser, "notifications", action="clear", task=task)
    expect("None: all go with the service.", done)
    _, done = send(browser, "notifications", stage="mirror", task="shop.orders.tasks.nothing")
    expect("Nothing was done: notifications has no task", done)


@inside_shop
def test_what_makes_no_sense_is_said_and_never_an_error_page():
    _, browser = mover()
    for fields, words in (
        ({"action": "promote"}, "there is no action"),
        ({"stage": "sideways"}, "there is no stage"),
        ({}, "there is no stage"),
        ({"stage": "live"}, "live needs --percent"),
        ({"stage": "live", "percent": "much"}, "must be numbers"),
        ({"stage": "mirror", "epoch": "x"}, "must be numbers"),
    ):
        assert words in page(browser, f"{LIST}catalog/move/", **fields), fields
    assert "there is no service" in page(browser, f"{LIST}nonsense/move/", stage="off")
    assert browser.get(f"{LIST}nonsense/change/").status_code == 404


@inside_shop
def test_without_the_permission_one_may_look_at_most():
    _, browser = client("view_serviceflag", "view_transition")
    text = page(browser, f"{LIST}reports/change/")
    expect("You may look.", text)
    assert "/move/" not in text
    assert browser.get(f"{LIST}reports/move/", {"stage": "mirror"}).status_code == 403
    assert browser.post(f"{LIST}reports/move/", {"stage": "mirror"}).status_code == 403
    _, stranger = client("view_order")
    assert stranger.get(LIST).status_code == 403
    assert stranger.get(f"{LIST}reports/change/").status_code == 403
    assert stage("reports") == "off"


@inside_shop
def test_a_form_of_another_site_moves_nothing():
    _, browser = mover()
    assert browser.post(f"{LIST}reports/move/", {"stage": "mirror"}).status_code == 403
    assert stage("reports") == "off"


@inside_shop
def test_the_audit_can_be_filtered_and_not_changed():
    from taskbridge.contrib.django.models import Transition

    _, browser = client(superuser=True)
    send(browser, "inventory", stage="mirror", reason="for the audit")
    text = page(browser, "/admin/taskbridge/transition/", service="inventory", action="move")
    expect("off → mirror", text)
    expect("for the audit", text)
    row = Transition.objects.filter(service="inventory").first()
    assert browser.get(f"/admin/taskbridge/transition/{row.pk}/delete/").status_code == 403
    assert browser.get("/admin/taskbridge/transition/add/").status_code == 403
    assert 'name="_save"' not in page(browser, f"/admin/taskbridge/transition/{row.pk}/change/")
    for table in ("delayedmessage", "outboxmessage"):
        page(browser, f"/admin/taskbridge/{table}/")


@inside_shop
def test_servers_that_are_away_are_said_on_the_page():
    from unittest.mock import patch

    from taskbridge.contrib.django import moves
    from taskbridge.contrib.django.session import Sessions
    from taskbridge.contrib.django.site import site_bridge
    from taskbridge.exceptions import StoreUnavailable

    _, browser = mover()
    kafka = site_bridge().settings.kafka
    with (
        patch.object(moves, "PATIENCE", 1.0),
        patch.object(type(kafka), "client_config", lambda _: {"bootstrap.servers": "127.0.0.1:1"}),
    ):
        shown, done = send(browser, "payouts", stage="mirror")
        expect("did not answer within 1 s", shown)
        expect("Nothing was done: Kafka at", done)
    with patch.object(Sessions, "transaction", side_effect=StoreUnavailable("the database is away")):
        assert "the database is away" in page(browser, LIST)
        assert "the database is away" in page(browser, f"{LIST}payouts/change/")
        assert "Nothing was done: the database is away" in page(browser, f"{LIST}payouts/move/", action="kill")
    assert stage("payouts") == "off"


def test_the_api_over_http(bridged_shop):
    bind = ("--bind", "127.0.0.1:0", "--workers", "1", "--threads", "2")
    with bridged_shop.process("web", sys.executable, "-m", "gunicorn", *bind, "shop.config.wsgi") as running:

        def address():
            assert running.poll() is None, bridged_shop.log("web")
            _, found, rest = bridged_shop.log("web").partition("Listening at: ")
            return rest.split()[0] if found and " " in rest else None

        url = f"{wait_until('gunicorn to listen', address)}/bridge/api"
        with httpx.Client(trust_env=False) as stranger:
            answer = stranger.post(f"{url}/cutovers/catalog/transition", json={"stage": "mirror"})
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="taskbridge"')
        with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as operator:
            answer = operator.post(f"{url}/cutovers/catalog/transition", json={"stage": "mirror", "reason": "by HTTP"})
            assert (answer.status_code, answer.json()["after"]["stage"]) == (200, "mirror")
            assert operator.get(f"{url}/cutovers/catalog").json()["stage"] == "mirror"
            (row,) = operator.get(f"{url}/cutovers/catalog/audit").json()["transitions"]
            assert (row["who"], row["why"]) == ("api:operator", "by HTTP")
            assert len(operator.get(f"{url}/cutovers").json()["cutovers"]) == 8
            assert operator.get(f"{url}/openapi.json").json()["openapi"].startswith("3.1")
            large = operator.post(f"{url}/cutovers/catalog/transition", content=b" " * 300_000)
            assert large.status_code == 415
            large = operator.post(f"{url}/cutovers/catalog/transition", json={"reason": "x" * 300_000})
            assert large.status_code == 413
    assert TOKEN not in bridged_shop.log("web")
