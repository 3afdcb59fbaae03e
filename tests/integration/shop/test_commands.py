"""Management commands, as people run them."""

import os
import signal
import subprocess
import sys

import pytest

from tests.integration.shop.conftest import CHECKOUT, TOKEN, summary, wait_until


@pytest.mark.parametrize("variable", ["DATABASE_URL", "REDIS_URL", "DJANGO_SECRET_KEY", "EMAIL_URL"])
def test_a_missing_variable_is_one_sentence(shop, variable):
    done = shop.manage("check", **{variable: None})
    assert done.returncode == 1
    assert done.stderr.startswith(f"shop: {variable} is not set: set it to something like ")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_variable_is_one_sentence_for_a_worker_too(shop):
    environ = {name: value for name, value in shop.environ.items() if name != "REDIS_URL"}
    command = [sys.executable, "-m", "celery", "-A", "shop.config.celery", "worker"]
    done = subprocess.run(command, env=environ, cwd=shop.logs, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("shop: REDIS_URL is not set")
    assert "Traceback" not in done.stderr


def test_with_debug_a_key_and_mail_need_no_variable(shop):
    assert shop.manage("check", DJANGO_SECRET_KEY=None, EMAIL_URL=None, DJANGO_DEBUG="1").returncode == 0


def test_a_database_that_does_not_answer_is_one_sentence(shop):
    done = shop.manage("seed", DATABASE_URL="postgresql://nobody@127.0.0.1:1/shop")
    assert done.returncode == 1
    assert "shop: the database does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_does_not_answer_is_one_sentence(shop):
    done = shop.manage("traffic", "--rate", "5", "--seconds", "1", REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 1
    assert "shop: the broker does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_migrations_are_complete(shop):
    assert shop.manage("makemigrations", "--check", "--dry-run").returncode == 0


def test_seeding_again_changes_nothing(shop):
    first = shop.query("SELECT max(id), count(*) FROM orders_customer")
    done = shop.manage("seed", "--customers", "200", "--products", "50")
    assert done.returncode == 0, done.stderr
    assert shop.query("SELECT max(id), count(*) FROM orders_customer") == first


def test_the_admin_gets_the_password_of_a_variable_and_no_other(shop):
    options = ("seed", "--customers", "1", "--products", "1", "--admin-password-from-env", "SHOP_ADMIN_PASSWORD")
    assert "SHOP_ADMIN_PASSWORD is not set" in shop.manage(*options).stderr
    weak = shop.manage(*options, SHOP_ADMIN_PASSWORD="password")
    assert "too weak" in weak.stderr
    assert weak.returncode == 1
    assert shop.query("SELECT count(*) FROM auth_user WHERE username = 'admin'") == [(0,)]
    assert shop.manage(*options, SHOP_ADMIN_PASSWORD="a long enough one").returncode == 0
    assert shop.query("SELECT is_superuser FROM auth_user WHERE username = 'admin'") == [(True,)]


@pytest.mark.parametrize("option", ["--rate=0", "--rate=-1", "--rate=nan", "--seconds=soon"])
def test_traffic_refuses_what_is_no_rate(shop, option):
    done = shop.manage("traffic", option)
    assert done.returncode != 0
    assert "is not a number above 0" in done.stderr


def test_the_same_seed_makes_the_same_traffic(shop):
    options = ("traffic", "--rate", "200", "--seconds", "0.15", "--json", "--seed", "11", "--label")
    first, second = (summary(shop.manage(*options, label)) for label in ("same-a", "same-b"))
    assert first["performed"] == second["performed"] == 30
    assert first["outcomes"] == second["outcomes"]
    orders = (
        "SELECT substr(idempotency_key, 8), customer_id, total_minor FROM orders_order WHERE idempotency_key LIKE %s"
    )
    placed = shop.query(f"{orders} ORDER BY 1", "same-a-%")
    assert len(placed) > 20
    assert placed == shop.query(f"{orders} ORDER BY 1", "same-b-%")


def test_traffic_goes_over_http(shop, site):
    done = shop.manage(
        "traffic", "--rate", "40", "--seconds", "0.5", "--json", "--url", str(site.base_url), SHOP_API_TOKENS=TOKEN
    )
    result = summary(done)
    assert result["performed"] == 20
    assert result["outcomes"]["PlaceOrder done"] > 10


def test_traffic_with_the_wrong_token_stops_with_a_sentence(shop, site):
    done = shop.manage("traffic", "--seconds", "1", "--url", str(site.base_url), SHOP_API_TOKENS="wrong")
    assert done.returncode == 1
    assert "answered 401" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_traffic_with_its_summary(shop):
    before = shop.query("SELECT count(*) FROM orders_order")
    command = (sys.executable, str(CHECKOUT / "manage.py"), "traffic", "--rate", "20", "--seconds", "60", "--json")
    with shop.process("interrupted", *command) as running:
        wait_until("an order", lambda: shop.query("SELECT count(*) FROM orders_order") > before)
        os.kill(running.pid, signal.SIGINT)
        assert running.wait(60) == 0
    assert '"interrupted": true' in shop.log("interrupted").splitlines()[-1]
    assert "Traceback" not in shop.log("interrupted")


def test_a_port_that_is_taken_is_a_sentence(shop, site):
    done = shop.manage("feeds", "--port", str(site.base_url.port))
    assert done.returncode == 1
    assert "Try --port 0." in done.stderr
