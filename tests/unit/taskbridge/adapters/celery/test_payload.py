"""A record's message, decoded."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from taskbridge.adapters.celery.payload import accepted_content, load
from taskbridge.exceptions import MalformedRecord
from tests.unit.taskbridge.adapters.celery.messages import message_of

JSON = accepted_content(["json"])


def test_what_is_accepted_is_the_applications_own_and_never_pickle() -> None:
    assert accepted_content(["json", "yaml"]) == {"application/json", "application/x-yaml"}
    assert accepted_content(["json", "pickle", "application/x-python-serialize"]) == {"application/json"}
    assert accepted_content([]) == frozenset()
    assert accepted_content(None) == {"application/json"}


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_call_comes_out_as_it_went_in(app: Any, protocol: int) -> None:
    args = (1, "é", UUID(int=7), Decimal("1.10"), datetime(2030, 1, 2, tzinfo=UTC))
    found = load(message_of(app, "orders.place", *args, kwargs={"amount": 3}, protocol=protocol, retries=2), JSON)
    assert (tuple(found.args), found.kwargs) == (args, {"amount": 3})
    assert (found.headers["task"], found.headers["id"], found.headers["retries"]) == ("orders.place", "id-1", 2)
    assert found.properties["delivery_info"]["routing_key"] == "orders"


def test_canvas_comes_with_the_call(app: Any) -> None:
    found = load(message_of(app, "orders.place", 1, chain=[app.signature("other.work")]), JSON)
    assert [one["task"] for one in found.embed["chain"]] == ["other.work"]


@pytest.mark.parametrize("compression", ["gzip", "zlib", "bzip2"])
@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack"])
@pytest.mark.parametrize("protocol", [1, 2])
def test_serializers_and_compression(app: Any, serializer: str, compression: str, protocol: int) -> None:
    message = message_of(
        app, "orders.place", "é" * 999, serializer=serializer, compression=compression, protocol=protocol
    )
    assert list(load(message, accepted_content([serializer])).args) == ["é" * 999]
    others = {"json", "yaml", "msgpack"} - {serializer}
    with pytest.raises(MalformedRecord, match=f"content of type application/[a-z-]*{serializer} is not accepted"):
        load(message, accepted_content(others))


def test_task_protocol_1_is_read_as_celery_reads_it(app: Any) -> None:
    # Every message of protocol 1 takes the way that Celery calls hybrid: a few names, and the headers of its own.
    message = message_of(app, "orders.place", 1, protocol=1, group_id="g-1")
    found = load(replace(message, headers=b'{"tenant": "acme"}'), JSON)
    assert found.headers == {
        **dict.fromkeys(["lang", "root_id", "parent_id", "meth", "shadow", "eta", "expires", "argsrepr"]),
        **dict.fromkeys(["kwargsrepr", "origin"]),
        "task": "orders.place",
        "id": "id-1",
        "group": "g-1",
        "retries": 0,
        "timelimit": [None, None],
        "tenant": "acme",
    }
    assert found.embed == {"callbacks": None, "errbacks": None, "chord": None, "chain": None}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"body": b"not json"}, "the body cannot be decoded: JSONDecodeError"),
        ({"body": b"\xff\xfe"}, "the body cannot be decoded: UnicodeDecodeError"),
        ({"body": b"[1, 2]"}, "the body cannot be decoded: ValueError"),
        ({"body": b"7"}, "the body cannot be decoded: TypeError"),
        ({"headers": b"not json"}, "the body cannot be decoded: JSONDecodeError"),
        ({"headers": b'{"compression": "application/x-nothing"}'}, "the body cannot be decoded: KeyError"),
        ({"content_type": "application/x-yaml"}, "application/x-yaml is not accepted"),
        (
            {"content_type": "application/x-python-serialize", "content_encoding": "binary", "body": pickle.dumps(1)},
            "application/x-python-serialize is not accepted: .*pickle never is, others are allowed by Celery's accept",
        ),
    ],
)
def test_what_cannot_be_decoded_is_malformed(app: Any, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(MalformedRecord) as raised:
        load(replace(message_of(app, "orders.place", 1), **changed), JSON)
    assert re.search(says, str(raised.value))


def test_json_that_the_application_does_not_accept(app: Any) -> None:
    with pytest.raises(MalformedRecord, match=r"application/json is not in accept_content"):
        load(message_of(app, "orders.place", 1), accepted_content(["yaml"]))
