"""Orders on their way through a real Celery worker."""

import json
import sys
from secrets import token_hex

import pytest

from tests.integration.shop.conftest import CHECKOUT, summary, wait_until

pytestmark = pytest.mark.usefixtures("worker")


def place(shop, site, customer, *skus, quantity=1):
    lines = [{"sku": sku, "quantity": quantity} for sku in skus]
    answer = site.post("/api/orders/", json={"customer": customer, "lines": lines})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def final_state(shop, order):
    def reached():
        ((state, reason),) = shop.query("SELECT state, reason FROM orders_order WHERE id = %s", order)
        return (state, reason) if state in {"confirmed", "rejected", "cancelled", "expired"} else None

    return wait_until(f"order {order} to end", reached)


def notices(shop, order, expected):
    def finished():
        rows = shop.query(
            "SELECT kind, channel, state, attempts FROM notifications_notification"
            " WHERE order_id = %s AND kind <> 'delayed' AND state <> 'pending' ORDER BY channel",
            order,
        )
        return rows if len(rows) >= expected else None

    return wait_until(f"the notifications of order {order}", finished)


def customer(shop):
    """Return the number of a customer who can be reached and can pay."""
    return shop.query(
        "SELECT number FROM orders_customer WHERE NOT blocked AND email NOT LIKE '%%.invalid' AND phone LIKE '+%%'"
        " AND card_token NOT LIKE 'tok_declined%%' ORDER BY id LIMIT 1"
    )[0][0]


def products(shop, count=2):
    rows = shop.query(
        "SELECT sku FROM catalog_product p JOIN inventory_stock s ON s.product_id = p.id"
        " WHERE active AND available > 100 AND price_minor < 20000 ORDER BY p.id LIMIT %s",
        count,
    )
    return [sku for (sku,) in rows]


def stock(shop, sku):
    return shop.query(
        "SELECT available FROM inventory_stock s JOIN catalog_product p ON s.product_id = p.id WHERE sku = %s", sku
    )[0][0]


@pytest.fixture
def new_customer(shop):
    """A function that inserts a customer with unusual fields and returns its number."""

    def insert(email=None, card_token=None):
        number = token_hex(6)
        shop.query(
            "INSERT INTO orders_customer (number, name, email, phone, card_token, blocked, subscribed, joined_at)"
            " VALUES (%s, 'A', %s, '', %s, false, false, now()) RETURNING id",
            number,
            email or f"{number}@example.net",
            card_token or f"tok_{number}",
        )
        return number

    return insert


def test_an_order_reaches_its_end(shop, site):
    order = place(shop, site, customer(shop), *products(shop))
    assert final_state(shop, order) == ("confirmed", "")
    rows = notices(shop, order, 2)
    assert [(kind, channel, state) for kind, channel, state, _ in rows] == [
        ("confirmed", "mail", "sent"),
        ("confirmed", "text", "sent"),
    ]
    assert any(order in mail.read_text() for mail in (shop.logs / "mail").iterdir())
    paid = "SELECT id FROM payouts_payout WHERE order_id = %s AND state = 'sent'"
    wait_until("a payout to each supplier", lambda: len(shop.query(paid, order)) == 2)


def test_an_order_that_cannot_be_delivered_is_rejected_and_releases_what_it_held(shop, site):
    plenty, short = products(shop)
    before = stock(shop, plenty), stock(shop, short)
    shop.query(
        "UPDATE inventory_stock s SET available = 1 FROM catalog_product p"
        " WHERE s.product_id = p.id AND sku = %s RETURNING 1",
        short,
    )
    order = place(shop, site, customer(shop), plenty, short, quantity=2)
    assert final_state(shop, order) == ("rejected", "Not all products could be reserved.")
    wait_until("the pieces to come back", lambda: stock(shop, plenty) == before[0])
    assert stock(shop, short) == 1
    assert [row[0] for row in notices(shop, order, 1)] == ["rejected"]
    assert site.post(f"/api/products/{short}/restock/", json={"quantity": 2_000}).status_code == 202
    wait_until("the restocking", lambda: stock(shop, short) == 2_001)


def test_a_declined_card_rejects_the_order(shop, site, new_customer):
    order = place(shop, site, new_customer(card_token=f"tok_declined_{token_hex(4)}"), *products(shop))
    assert final_state(shop, order) == ("rejected", "The card was declined.")


def test_a_mail_to_nobody_is_marked_as_failed_and_the_order_stands(shop, site, new_customer):
    order = place(shop, site, new_customer(email="nobody@nowhere.invalid"), *products(shop, 1))
    assert final_state(shop, order) == ("confirmed", "")
    assert notices(shop, order, 1) == [("confirmed", "mail", "failed", 0)]
    statement = "SELECT problem FROM notifications_notification WHERE order_id = %s AND kind = 'confirmed'"
    assert shop.query(statement, order) == [("550 5.1.1 No such user",)]


def test_a_greylisted_mail_arrives_at_the_second_attempt(shop, site, new_customer):
    from shop.notifications.rehearsal import refusal

    address = next(a for a in (f"grey.{n}@example.net" for n in range(1_000)) if refusal(a, 0))
    order = place(shop, site, new_customer(email=address), *products(shop, 1))
    assert notices(shop, order, 1) == [("confirmed", "mail", "sent", 2)]


def test_a_cancelled_order_gives_stock_and_money_back(shop, site):
    skus = products(shop)
    before = [stock(shop, sku) for sku in skus]
    order = place(shop, site, customer(shop), *skus)
    final_state(shop, order)
    assert site.post(f"/api/orders/{order}/cancel/", json={}).json()["state"] == "cancelled"
    wait_until(
        "the refund",
        lambda: shop.query("SELECT 1 FROM payments_payment WHERE order_id = %s AND state = 'refunded'", order),
    )
    wait_until("the pieces to come back", lambda: [stock(shop, sku) for sku in skus] == before)
    assert "cancelled" in [row[0] for row in notices(shop, order, 3)]


def test_an_order_placed_while_the_broker_was_away_goes_on_when_it_is_placed_again(shop, site):
    number, (sku,), key = customer(shop), products(shop, 1), token_hex(8)
    place_it = (
        "from shop.orders.workflow import place_order; from shop.orders.services import Wanted;"
        f"place_order({number!r}, [Wanted({sku!r}, 1)], {key!r})"
    )
    done = shop.manage("shell", "-v", "0", "-c", place_it, REDIS_URL="redis://127.0.0.1:1")
    assert "shop: the broker does not answer" in done.stderr
    content = {"customer": number, "lines": [{"sku": sku, "quantity": 1}]}
    answer = site.post("/api/orders/", json=content, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["state"]) == (200, "placed")
    assert final_state(shop, answer.json()["id"]) == ("confirmed", "")


def test_a_report_is_computed_and_fetched_over_http(site, shop):
    asked = site.post("/api/reports/", json={"day": "2019-01-01"})
    assert asked.status_code == 202
    fetched = site.get(f"/api/reports/{asked.json()['id']}/", params={"wait": "10"})
    assert fetched.json() == {"id": asked.json()["id"], "state": "ready", "totals": []}


def test_a_newsletter_goes_out_when_it_is_due(site, shop):
    slug = f"news-{token_hex(4)}"
    content = {"slug": slug, "subject": "News", "body": "There is news.", "audience": 3, "wait": 1}
    assert site.post("/api/newsletters/", json=content).status_code == 202
    statement = "SELECT 1 FROM notifications_notification WHERE kind = %s AND state <> 'pending'"
    wait_until("the newsletter", lambda: len(shop.query(statement, f"newsletter:{slug}")) == 3)


def test_the_request_id_reaches_the_worker(site, shop):
    mark = f"mark-{token_hex(4)}"
    order = site.post(
        "/api/orders/",
        json={"customer": customer(shop), "lines": [{"sku": products(shop)[0], "quantity": 1}]},
        headers={"X-Request-Id": mark},
    ).json()["id"]
    wait_until("the worker's log", lambda: f"[{mark}] order {order} is confirmed" in shop.log("worker"))


def test_nothing_is_lost_and_nothing_runs_twice(shop):
    traffic = summary(shop.manage("traffic", "--rate", "20", "--seconds", "3", "--json"))
    assert traffic["performed"] == 60
    done = shop.manage("journal", "--wait", "60", "--json")
    account = json.loads(done.stdout)
    assert (done.returncode, account["never_ran"], account["ran_more_than_once"]) == (0, [], []), done.stdout[-2_000:]
    assert account["total"]["ran_once"] > 600
    assert account["not_dispatched"] == []
    assert {line["side"] for line in account["lines"]} == {"celery"}


def test_the_journal_keeps_a_run_whose_transaction_was_rolled_back(shop, site, new_customer):
    order = place(shop, site, new_customer(card_token=f"tok_declined_{token_hex(4)}"), *products(shop, 1))
    final_state(shop, order)
    rows = shop.query(
        "SELECT count(*) FROM journal_run WHERE task = 'shop.payments.tasks.authorize_payment' AND state = 'FAILURE'"
    )
    assert rows[0][0] >= 1
    assert shop.query("SELECT count(*) FROM payments_payment WHERE order_id = %s", order) == [(0,)]


def test_the_journal_knows_of_a_message_that_expired(shop):
    send = (
        "from datetime import timedelta; from django.utils import timezone;"
        " from shop.orders.tasks import expire_unpaid_orders as task;"
        " print(task.apply_async(expires=timezone.now() - timedelta(minutes=1)).id)"
    )
    sent = shop.manage("shell", "-v", "0", "-c", send)
    assert sent.returncode == 0, sent.stderr
    runs = wait_until(
        "the message to be thrown away",
        lambda: shop.query(
            "SELECT task, retries, side, state FROM journal_run WHERE task_id = %s", sent.stdout.split()[-1]
        ),
    )
    assert runs == [("shop.orders.tasks.expire_unpaid_orders", 0, "celery", "EXPIRED")]


def test_the_journal_reports_a_lost_and_a_doubled_task(shop):
    made_up = token_hex(8)
    shop.query(
        "INSERT INTO journal_dispatch (task_id, retries, replaced_task_nesting, task, queue, at)"
        " VALUES (%s, 0, 0, 'made.up', 'orders', now()) RETURNING id",
        made_up,
    )
    try:
        lost = shop.manage("journal")
        assert lost.returncode == 1
        assert f"made.up {made_up} retry 0" in lost.stdout
        for _ in range(2):
            shop.query(
                "INSERT INTO journal_run (task_id, retries, replaced_task_nesting, task, side, worker, pid,"
                " started_at, finished_at, state)"
                " VALUES (%s, 0, 0, 'made.up', 'celery', 'w', 1, now(), now(), 'SUCCESS') RETURNING id",
                made_up,
            )
        doubled = json.loads(shop.manage("journal", "--json").stdout)
        assert doubled["ran_more_than_once"] == [f"made.up {made_up} retry 0"]
    finally:
        shop.query("DELETE FROM journal_dispatch WHERE task_id = %s RETURNING id", made_up)
        shop.query("DELETE FROM journal_run WHERE task_id = %s RETURNING id", made_up)


def test_feeds_are_crawled(shop):
    command = (sys.executable, str(CHECKOUT / "manage.py"), "feeds", "--products", "50", "--port", "0")
    with shop.process("feeds", *command):
        url = wait_until("the feeds' address", lambda: shop.log("feeds").strip())
        shop.manage("seed", "--customers", "200", "--products", "50", "--feeds-url", url)
        send = "from shop.catalog.tasks import crawl_feeds; crawl_feeds.delay()"
        assert shop.manage("shell", "-v", "0", "-c", send).returncode == 0
        wait_until(
            "prices to change",
            lambda: shop.query("SELECT 1 FROM catalog_product WHERE price_changed_at IS NOT NULL"),
        )
        problem = wait_until(
            "the nonsense to be noted",
            lambda: shop.query("SELECT feed_problem FROM catalog_supplier WHERE feed_problem <> ''"),
        )
    assert problem[0][0].startswith("The feed is not JSON")


def test_every_service_has_its_queue(shop):
    rows = shop.query("SELECT DISTINCT split_part(task, '.', 2), queue FROM journal_dispatch WHERE task LIKE 'shop.%%'")
    assert len(rows) == 8
    assert all(service == queue for service, queue in rows)
