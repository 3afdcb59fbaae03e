from __future__ import annotations

from collections.abc import Callable

import pytest

from taskbridge.scan import Judged

One = Callable[..., Judged]


@pytest.mark.parametrize(
    ("body", "effects", "confidence"),
    [
        ("return sum(len(str(n)) for n in numbers)", "pure", "medium"),
        ("import json; return json.dumps(sorted(numbers))", "pure", "medium"),
        ("return helper(numbers)", "pure", "medium"),
        ("Order.objects.filter(pk=1).update(x=1)", "db", "high"),
        ("order.save()", "db", "high"),
        ("from django.db import connection; connection.cursor().execute('x')", "db", "high"),
        ("with transaction.atomic(): pass", "db", "high"),
        ("store(numbers)", "db", "medium"),
        ("import requests; requests.delete('http://x')", "external", "high"),
        ("from urllib.request import urlopen; urlopen('http://x')", "external", "high"),
        ("from django.core.mail import send_mail; send_mail()", "external", "high"),
        ("import subprocess; subprocess.run(['x']); Order.objects.get()", "external", "high"),
        ("call_out()", "external", "medium"),
        ("work.delay(numbers)", "opaque", "medium"),
        ("unknown_thing.frobnicate(numbers)", "opaque", "low"),
        ("open('/tmp/x').read()", "opaque", "low"),
        ("global STATE; STATE = 1", "opaque", "low"),
        ("numbers.count = 1", "opaque", "low"),
        ("from django.core.cache import cache; cache.set('a', 1)", "opaque", "low"),
    ],
)
def test_the_class_that_the_source_suggests(one: One, body: str, effects: str, confidence: str) -> None:
    item = one(
        f"""
from shop.helpers import store, call_out, helper
@shared_task
def work(numbers):
    {body}
""",
        {
            "shop/helpers.py": """
                import httpx
                def helper(numbers):
                    return [n + 1 for n in numbers]
                def store(numbers):
                    deeper(numbers)
                def deeper(numbers):
                    Order.objects.bulk_create(numbers)
                def call_out():
                    with httpx.Client() as client:
                        client.get("http://x")
            """
        },
    )
    assert (item.effects.effects, item.effects.confidence) == (effects, confidence), item.effects


def test_evidence_has_places_of_what_talks_to_others_and_of_the_database(one: One) -> None:
    item = one(
        "import requests\n@shared_task\ndef work():\n    order = Order.objects.get()\n    requests.get('x')\n"
        "    requests.get('y')\n    requests.get('z')\n    requests.get('w')\n"
    )
    kinds = [sight.kind for sight in item.effects.evidence]
    assert kinds == ["external"] * 3 + ["db"]
    assert [sight.place.line for sight in item.effects.evidence] == [7, 8, 9, 6]


def test_functions_that_call_each_other_end(one: One) -> None:
    text = "@shared_task\ndef work():\n    a()\ndef a():\n    b()\ndef b():\n    a()\n"
    assert one(text).effects.effects == "pure"
