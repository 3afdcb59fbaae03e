"""`manage.py follow_order`, by which `helm test` judges an installation."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.integration.shop.conftest import Shop


@pytest.mark.usefixtures("worker")
def test_an_order_is_followed_to_its_confirmation(shop: Shop, site: httpx.Client) -> None:
    done = shop.manage("follow_order", "--url", str(site.base_url), DATABASE_URL="postgresql://nobody@localhost/none")

    assert done.returncode == 0, done.stderr
    states = re.findall(r"^ +[0-9.]+ s  (\w+)$", done.stdout, re.MULTILINE)
    assert states[-1] == "confirmed"
    assert len(states) == len(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--customer", "C999999"], "The order did not come through: the shop answered 400"),
        (["--url", "http://127.0.0.1:1", "--timeout", "1"], "http://127.0.0.1:1 cannot be reached"),
        (["--url", "127.0.0.1"], "--url is '127.0.0.1': give it as in http://localhost:8000."),
    ],
)
def test_what_goes_wrong_is_one_sentence(shop: Shop, site: httpx.Client, options: list[str], sentence: str) -> None:
    done = shop.manage("follow_order", "--url", str(site.base_url), *options)

    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_orders_without_a_token(shop: Shop) -> None:
    done = shop.manage("follow_order", "--url", "http://127.0.0.1:1", SHOP_API_TOKENS=None)

    assert done.returncode == 1
    assert "SHOP_API_TOKENS is not set" in done.stderr
