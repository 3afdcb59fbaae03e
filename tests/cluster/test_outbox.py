"""The outbox connector in a cluster: what the chart renders for Strimzi's Connect publishes, and no relay runs."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
import yaml

from standin.workload import connect_workload
from tests.cluster.kube import wait_for
from tests.cluster.system import CONNECT, KAFKA, System

pytestmark = pytest.mark.timeout(1500)

PLACE_AN_ORDER = """
import shop.config.settings as settings
settings.TASKBRIDGE["services"]["orders"]["publish"] = "outbox"
import django; django.setup()
import sys
from django.db import transaction
from shop.orders import services, tasks
with transaction.atomic():
    order, _ = services.create_order("C000001", [services.Wanted("P00001", 1)], sys.argv[1])
    task = tasks.validate_order.delay(str(order.pk))
    if sys.argv[2] == "no":
        transaction.set_rollback(True)
print(task.id)
"""
"""Order and message are rows of one transaction; prints the task's id."""


@pytest.fixture(scope="module")
def outbox(system: System) -> Iterator[System]:
    """Have Debezium read the outbox, by the resources that the chart renders; the relay is stopped."""
    found = system.kube.get("secret", "shop", "shop-postgresql")["data"]["password"]
    system.secret("shop", "outbox-database", {"username": "shop", "password": base64.b64decode(found).decode()})
    rendered = system.render_kafka(
        "connect.enabled=true",
        f"connect.image={system.reference('kafka')}",
        "connect.heap=256m",
        "connect.resources.requests.memory=384Mi",
        "connect.outbox.database.host=shop-postgresql.shop.svc",
        "connect.outbox.database.name=shop",
        "connect.outbox.database.existingSecret=outbox-database",
        "connect.outbox.database.sslmode=disable",
        "connect.outbox.heartbeatMs=1000",
    )
    resources = [one for one in yaml.safe_load_all(rendered) if one]
    [connect] = [one for one in resources if one["kind"] == "KafkaConnect"]
    [scripts] = [one["data"] for one in resources if "enable.sql" in one.get("data", {})]
    workload = connect_workload(connect, system.reference("kafka"), KAFKA)
    system.stand_in(rendered=rendered)
    system.kube.apply(*workload)
    try:
        system.go_live()
        system.kube.rolled_out("shop", f"deployment/{CONNECT}-connect")
        system.sql(scripts["enable.sql"])
        system.stand_in("--connect", f"http://{CONNECT}-connect-api.shop.svc.cluster.local:8083", rendered=rendered)
        _run_relays(system, 0)
        yield system
        system.sql(scripts["disable.sql"])
    finally:
        _run_relays(system, 1)
        made = (f"deployment/{CONNECT}-connect", f"service/{CONNECT}-connect-api", "secret/outbox-database")
        system.kube.run("delete", "--namespace", "shop", *made)
        wait_for(lambda: _slots(system, "AND active") == "0", "nobody reads the slot")
        system.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        system.sql("DROP PUBLICATION IF EXISTS taskbridge_outbox; DROP TABLE IF EXISTS taskbridge_outbox_log")
        system.go_back()


def test_an_order_of_the_outbox_is_published_without_a_relay(outbox: System) -> None:
    task = outbox.kube.execute("shop", outbox.cli(), "python", "-c", PLACE_AN_ORDER, "kept", "yes").strip()
    runs = f"SELECT side, state FROM journal_run WHERE task_id = '{task}'"  # noqa: S608
    wait_for(lambda: outbox.sql(runs) == "kafka|SUCCESS", f"a worker of Kafka has executed task {task}", 180)
    assert outbox.sql("SELECT count(*) FROM taskbridge_outbox WHERE road = 'kafka'") == "0"


def test_what_was_rolled_back_is_not_published(outbox: System) -> None:
    lost = outbox.kube.execute("shop", outbox.cli(), "python", "-c", PLACE_AN_ORDER, "rolled back", "no").strip()
    kept = outbox.kube.execute("shop", outbox.cli(), "python", "-c", PLACE_AN_ORDER, "kept as well", "yes").strip()
    ran = "SELECT task_id FROM journal_run WHERE task_id IN ('{}', '{}')"
    wait_for(lambda: kept in outbox.sql(ran.format(kept, lost)), f"a worker of Kafka has begun task {kept}", 180)
    # It stands behind the other in the database's log.
    assert outbox.sql(ran.format(kept, lost)) == kept
    # The journal counts what was said to be sent, whatever became of the transaction.
    outbox.sql(f"DELETE FROM journal_dispatch WHERE task_id = '{lost}'")  # noqa: S608


def _run_relays(system: System, count: int) -> None:
    system.kube.run("scale", "--namespace", "shop", "deployment/shop-relay", f"--replicas={count}")
    system.kube.rolled_out("shop", "deployment/shop-relay")
    selector = ("--selector", "app.kubernetes.io/component=relay")
    wait_for(lambda: len(system.kube.get("pods", "shop", *selector)["items"]) == count, f"{count} relays run")


def _slots(system: System, condition: str) -> str:
    return system.sql(f"SELECT count(*) FROM pg_replication_slots WHERE true {condition}")  # noqa: S608
