from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskbridge.scan import Result
from taskbridge.scan.snippet import snippet
from taskbridge.settings import Settings

Scan = Callable[..., Result]

TEXT = """
@shared_task(rate_limit="5/s")
def crawl(order_id, force=False): ...
@shared_task
def hello(user_id=None): ...
@shared_task
def other(line_id): ...
def send():
    for n in range(5):
        crawl.delay(n)
"""


def test_it_loads_and_says_what_the_scan_says(scan: Scan) -> None:
    text = snippet(scan(TEXT), "shop")
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102 - it is what a user does with it
    settings = Settings.from_mapping(names["TASKBRIDGE"], {"KAFKA_BOOTSTRAP_SERVERS": "-"})
    assert settings.prefix == "shop"
    assert settings.services["shop"].tasks == ("shop.tasks.*",)
    assert set(settings.services["shop"].keys.values()) == {"order_id", "line_id"}
    assert "Stays in mirror: crawl uses rate_limit='5/s'" in text
    assert '"publish": "barrier" would suit crawl' in text
    assert "Perhaps keys: user_id of hello" in text
    assert max(map(len, text.splitlines())) <= 120
