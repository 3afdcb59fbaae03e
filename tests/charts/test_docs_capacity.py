"""The capacity page computes what it says it computes, from figures that were measured."""

from __future__ import annotations

import re
from math import ceil
from uuid import UUID

import pytest
from celery import Celery
from kombu.serialization import dumps as serialize

from taskbridge.adapters.celery.wire import encode_json, encode_properties
from taskbridge.observation import Batch, CopyRow, DispatchRow, RunRow, dumps
from taskbridge.record import Message, Record, Stamp, encode, size
from taskbridge.settings import ServiceSettings
from tests.documents import ROOT, rows, section

PAGE = ROOT / "docs" / "discussions" / "capacity.md"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"

DAY = 86_400
PARTITIONS = (6, 12, 24, 48, 96, 192, 384)
TASK = "shop.orders.tasks.validate_order"
SOURCE = "shop-web-5c6f7d8b9c-abcde:17:4fa2c1"
AN_ID, AN_ORDER = str(UUID(int=2**127)), str(UUID(int=2**126))
AT = 1_763_700_000.123456


def given(sign: str) -> float:
    """Return the figure that the page's first table gives for a sign, in its own unit."""
    cells = {row[0].strip("*"): row[2] for row in rows(section(PAGE, "The formulas"), "sign")}
    found = re.match(r"[\d.,]+", cells[sign])
    assert found is not None, sign
    return float(found[0].replace(",", ""))


def row(average: float) -> list[str]:
    """Return the row of the page's second table for a service with so many tasks a second, by the page's formulas."""
    peak = 3 * average
    executors = ceil(peak * (given("t") + given("x") / 1e6) / given("u"))
    pods = max(ceil(executors / given("e")), ceil(peak * given("s") / 1e6 / given("u")), 2)
    partitions = next(number for number in PARTITIONS if number >= 2 * pods)
    disk = average * given("b") * given("T") * DAY * given("R") / given("f")
    brokers = max(ceil(disk / (given("d") * 1e12)), 3)
    share = disk / brokers / 1e9
    numbers = (average, peak, executors, pods, partitions, brokers)
    return [*(f"{number:,}" for number in numbers), f"{share:,.0f} GB"]


def test_the_table_is_what_the_formulas_give() -> None:
    table = rows(section(PAGE, "The table"), "tasks/s, average")
    # The line below the head says how the columns are aligned.
    stated = [cells for cells in table if cells[0][0].isdigit()]
    assert len(stated) >= 4
    assert stated == [row(int(cells[0].replace(",", ""))) for cells in stated]


def test_times_are_those_of_the_benchmarks() -> None:
    measured = re.search(r"taskbridge (\d+) in the executors, (\d+) in\s+the supervisor", BENCHMARKS.read_text())
    assert measured is not None, "docs/benchmarks.md does not say what a task costs in executors and supervisor"
    assert (given("x"), given("s")) == (float(measured[1]), float(measured[2]))


def test_settings_are_the_defaults() -> None:
    assert given("T") * DAY == ServiceSettings("orders", tasks=("orders.*",)).retention


def record() -> Record:
    """Return the record of one of the shop's tasks as a pod of its web dispatches it."""
    message = Celery("shop").amqp.as_task_v2(
        AN_ID,
        TASK,
        args=(AN_ORDER,),
        kwargs={},
        root_id=AN_ID,
        argsrepr=f"('{AN_ORDER}',)",
        kwargsrepr="{}",
        time_limit=30,
        soft_time_limit=20,
        origin="gen7@shop-web-5c6f7d8b9c-abcde",
    )
    content_type, content_encoding, body = serialize(message.body, serializer="json")
    options = {**message.properties, "exchange": "", "routing_key": "orders", "delivery_mode": 2}
    headers = encode_json(message.headers).encode()
    properties = encode_properties(options)
    sent = Message(TASK, AN_ID, body.encode(), content_type, content_encoding, headers, properties)
    return encode(sent, AN_ORDER, Stamp("kafka", 12, SOURCE, 123_456))


def observed() -> float:
    """Return the bytes of observations for one dispatch and its run, of batches of fifty."""
    dispatch = DispatchRow(AN_ID, 0, 0, TASK, AN_ORDER, "kafka", 12, 123_456, AT, "none", "0" * 16, "live")
    run = RunRow(AN_ID, 0, 0, TASK, "kafka", "success", AT, AT, 12, 3, 123_456)
    batches = (Batch("dispatch", "orders", SOURCE, [dispatch] * 50), Batch("run", "orders", SOURCE, [run] * 50))
    return sum(len(dumps(batch)) / 50 for batch in batches)


def copied() -> float:
    """Return the bytes of observations for one copy."""
    places = ("0" * 16, "0" * 16)
    row = CopyRow(AN_ID, 0, 0, TASK, 12, SOURCE, 123_456, 3, 123_456, True, True, True, *places)
    return len(dumps(Batch("copy", "orders", SOURCE, [row] * 50))) / 50


@pytest.mark.parametrize(
    ("part", "measured"),
    [("record", size(record())), ("observations", observed()), ("copy", size(record()) + copied())],
)
def test_bytes_are_those_of_a_real_message(part: str, measured: float) -> None:
    stated = {cells[0]: float(cells[1].replace(",", "")) for cells in rows(section(PAGE, "Bytes"), "part")}
    assert stated[part] == pytest.approx(measured, rel=0.1)
    assert given("b") == stated["record"] + stated["observations"] + stated["framing"]
