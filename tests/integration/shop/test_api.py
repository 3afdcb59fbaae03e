"""The HTTP API, over HTTP."""

from secrets import token_hex

import httpx
import pytest

ORDER = {"customer": "C000001", "lines": [{"sku": "P00001", "quantity": 2}, {"sku": "P00002", "quantity": 1}]}


def line(**changes):
    return {"customer": "C000001", "lines": [{"sku": "P00001", "quantity": 1, **changes}]}


def place(site, content=ORDER, key=None):
    return site.post("/api/orders/", json=content, headers={"Idempotency-Key": key or token_hex(8)})


def test_an_order_is_placed_and_can_be_read(site):
    placed = place(site)
    assert placed.status_code == 201, placed.text
    found = site.get(f"/api/orders/{placed.json()['id']}/").json()
    assert found["lines"] == [
        {"sku": "P00001", "quantity": 2, "unit_price_minor": found["lines"][0]["unit_price_minor"]},
        {"sku": "P00002", "quantity": 1, "unit_price_minor": found["lines"][1]["unit_price_minor"]},
    ]
    sold = sum(item["quantity"] * item["unit_price_minor"] for item in found["lines"])
    assert found["total_minor"] == sold - found["discount_minor"] + found["shipping_minor"]
    assert "email" not in str(found)


def test_a_repeated_request_finds_the_order_and_a_different_one_conflicts(site):
    key = token_hex(8)
    first, second = place(site, key=key), place(site, key=key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    other = place(site, line(), key=key)
    assert other.status_code == 409
    assert "idempotency key" in other.json()["error"]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic dTpw", "Bearer tøken"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/orders/",
        "/api/orders/0e5a6a4e-7d0c-4a86-a8a6-0f37a9f1a001/cancel/",
        "/api/products/P00001/restock/",
        "/api/newsletters/",
        "/api/reports/",
    ],
)
def test_nobody_posts_without_a_valid_token(site, header, path):
    with httpx.Client(base_url=site.base_url, trust_env=False) as stranger:
        headers = {} if header is None else {"Authorization": header.encode()}
        answer = stranger.post(path, json=ORDER, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "must be a JSON object"),
        ({"lines": ORDER["lines"]}, "customer must be a text"),
        ({**ORDER, "customer": 1}, "customer must be a text"),
        ({**ORDER, "customer": "C\u00001"}, "customer must be a text"),
        ({**ORDER, "price": 1}, "Unknown field 'price'"),
        ({**ORDER, "lines": "P00001"}, "lines must be a list"),
        ({**ORDER, "lines": []}, "lines must be a list"),
        ({**ORDER, "lines": [ORDER["lines"][0]] * 21}, "lines must be a list"),
        ({**ORDER, "lines": ["P00001"]}, "Each line must be an object"),
        (line(sku=None), "sku must be a text"),
        (line(sku="x" * 21), "sku must be a text"),
        (line(quantity=0), "quantity must be a whole number"),
        (line(quantity=101), "quantity must be a whole number"),
        (line(quantity=1.5), "quantity must be a whole number"),
        (line(quantity=True), "quantity must be a whole number"),
        (line(quantity="1"), "quantity must be a whole number"),
        (line(unit_price_minor=1), "Unknown field 'unit_price_minor'"),
        (line(sku="P99999"), "There is no product 'P99999'"),
        ({**ORDER, "customer": "C999999"}, "There is no customer 'C999999'"),
        ({**ORDER, "lines": [ORDER["lines"][0]] * 2}, "two lines"),
    ],
)
def test_a_bad_order_is_refused_with_the_reason(site, content, problem):
    answer = place(site, content)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused(site, body):
    answer = site.post("/api/orders/", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "The body is not JSON."


def test_another_content_type_is_refused(site):
    assert site.post("/api/orders/", data={"customer": "C000001"}).status_code == 400


def test_an_idempotency_key_has_a_limit(site):
    assert place(site, key="k" * 101).status_code == 400


def test_unknown_orders_and_products_are_not_found(site):
    nowhere = "/api/orders/0e5a6a4e-7d0c-4a86-a8a6-0f37a9f1a001/"
    assert site.get(nowhere).status_code == 404
    assert site.post(f"{nowhere}cancel/", json={}).status_code == 404
    assert site.post("/api/products/P99999/restock/", json={"quantity": 1}).status_code == 404
    assert site.get("/api/reports/0e5a6a4e-7d0c-4a86-a8a6-0f37a9f1a001/").status_code == 404


def test_an_order_is_cancelled_once_and_stays_so(site):
    order = place(site).json()["id"]
    answers = [site.post(f"/api/orders/{order}/cancel/", json={}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert site.get(f"/api/orders/{order}/").json()["state"] == "cancelled"


def test_the_wrong_method_is_named(site):
    answer = site.get("/api/orders/")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_products_come_in_pages(site):
    page = site.get("/api/products/", params={"after": "P00010"}).json()
    assert page["products"][0]["sku"] == "P00011"
    assert page["next_after"] is None
    assert {type(product["price_minor"]) for product in page["products"]} == {int}
    assert site.get("/api/products/", params={"after": "x" * 21}).status_code == 400


@pytest.mark.parametrize("day", ["2026-02-30", "yesterday", 5, None])
def test_a_report_needs_a_day(site, day):
    assert site.post("/api/reports/", json={"day": day}).status_code == 400


def test_probes_are_answered_whatever_host_they_name(site):
    for path in ("/healthz", "/readyz"):
        answer = site.get(path, headers={"Host": "10.1.2.3:8000"})
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert site.get("/api/products/", headers={"Host": "evil.example"}).status_code == 400


def test_a_request_id_comes_back_and_a_suspicious_one_is_replaced(site):
    assert site.get("/api/products/", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    replaced = site.get("/api/products/", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"]
    assert len(replaced) == 32
