"""What waits on one side is moved to the other, under the same ids, and nothing is lost on the way."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.project.harness import Console, Project, project, wait_for


@pytest.fixture
def shop(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project under a prefix of its own for every test, with its topics, and nothing running."""
    directory = tmp_path_factory.mktemp("drain")
    with project(directory, f"drain{time.monotonic_ns() % 10**9}", servers) as one:
        yield one


def drained(of: Project, *arguments: str, status: int = 0) -> dict[str, Any]:
    ended = of.cli("drain", "work", *arguments, "--yes", "--json", check=False)
    assert ended.returncode == status, ended.stdout + ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def queued(console: Console) -> int:
    # Kombu keeps each priority in a list of its own, named after the queue.
    lists = "[app.conf.task_default_queue + end for end in ('', *(f'\\x06\\x16{step}' for step in (3, 6, 9)))]"
    return int(console.ask(f"sum(journal.client().llen(one) for one in {lists})"))


def runs(of: Project) -> Counter[str]:
    return Counter(line["id"] for line in of.journal() if line["what"] == "prerun")


def kafka_backlog(shop: Project, count: int) -> list[str]:
    """Leave messages in the topic that nobody executes, and bring the service back."""
    shop.stand("work", "live", 10_000)
    console = shop.console()
    ids = [*console.dispatch("echo", count, "x")]
    shop.stand("work", "off")
    return ids


def test_a_backlog_in_kafka_goes_to_celery_under_the_same_ids(shop: Project) -> None:
    ids = kafka_backlog(shop, 30)
    would = shop.cli("drain", "work", "--to", "celery", "--dry-run")
    assert "30 messages of work would move to Celery's broker" in would.stdout
    assert drained(shop, "--to", "celery")["moved"] == 30
    assert drained(shop, "--to", "celery")["moved"] == 0
    shop.celery_worker()
    wait_for(lambda: len(runs(shop)) >= 30, "all were executed")
    assert runs(shop) == Counter(ids)


def test_it_is_refused_while_messages_go_to_kafka_or_a_worker_runs(shop: Project) -> None:
    shop.stand("work", "live", 10_000)
    refused = shop.cli("drain", "work", "--to", "celery", "--yes", check=False)
    assert (refused.returncode, "so that new messages go to Kafka" in refused.stderr) == (2, True)
    shop.stand("work", "off")
    refused = shop.cli("drain", "work", "--to", "kafka", "--yes", check=False)
    assert (refused.returncode, "so that new messages go to Celery" in refused.stderr) == (2, True)
    shop.kafka_worker()

    def refusal() -> str:
        return shop.cli("drain", "work", "--to", "celery", "--yes", check=False).stderr

    wait_for(lambda: "has workers that execute its records" in refusal(), "the worker is in the group")


def test_a_record_that_cannot_be_read_does_not_stand_in_the_way(shop: Project) -> None:
    ids = kafka_backlog(shop, 2)
    shop.script(
        "from taskbridge.contrib.django.wiring import bridge_of\nfrom taskbridge.record import Record\n"
        "import django; django.setup()\nbridge = bridge_of(app)\n"
        "bridge.confirmed.publish(bridge.settings.topic('work'), Record(b'k', b'{', []))"
    )
    found = drained(shop, "--to", "celery")
    assert (found["moved"], found["dead"]) == (len(ids), 1)
    assert '"dead_letters": 1' in shop.cli("status", "work", "--json", check=False).stdout


def test_a_drain_to_celery_that_is_killed_loses_nothing(shop: Project) -> None:
    ids = kafka_backlog(shop, 600)
    console = shop.console()
    killed = shop.start("drain", "taskbridge.cli", "drain", "work", "--to", "celery", "--yes")
    wait_for(lambda: queued(console) > 20, "some messages were moved", interval=0.005)
    killed.kill()

    def again() -> bool:
        # The group knows the dead member until its session is over.
        ended = shop.cli("drain", "work", "--to", "celery", "--yes", check=False)
        assert ended.returncode == 0 or "has workers" in ended.stderr, ended.stderr
        return ended.returncode == 0

    wait_for(again, "the second drain", timeout=90, interval=1.0)
    shop.celery_worker(concurrency=2)
    wait_for(lambda: queued(console) == 0 and len(runs(shop)) >= 600, "all were executed", timeout=60)
    found = runs(shop)
    assert set(found) == set(ids)
    assert sum(found.values()) - len(ids) <= 200, "one batch at most"


def test_messages_queued_at_celery_go_to_kafka_and_those_of_others_stay(shop: Project) -> None:
    shop.stand("work", "off")
    console = shop.console()
    ids = [*console.dispatch("echo", 20, "x")]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    console.ask(f"tasks.echo.apply_async(('late',), eta=__import__('datetime').datetime.fromisoformat({later!r})).id")
    console.ask("app.send_task('others.task', queue=app.conf.task_default_queue).id")
    console.ask("tasks.echo.apply_async(('first',), priority=5).id")
    shop.stand("work", "live", 10_000)
    found = drained(shop, "--to", "kafka", status=3)
    assert (found["moved"], found["delayed"], found["unsupported"], found["with_workers"]) == (20, 1, 1, 0)
    assert queued(console) == 2
    assert '"delayed": 1' in shop.cli("status", "work", "--json", check=False).stdout
    shop.kafka_worker()
    wait_for(lambda: len(runs(shop)) >= 20, "all were executed")
    assert runs(shop) == Counter(ids)


def test_a_drain_to_kafka_that_is_killed_loses_nothing(shop: Project) -> None:
    shop.stand("work", "off")
    console = shop.console()
    ids = [*console.dispatch("echo", 400, "x")]
    shop.stand("work", "live", 10_000)
    killed = shop.start("drain", "taskbridge.cli", "drain", "work", "--to", "kafka", "--yes")
    wait_for(lambda: queued(console) < 380, "some messages were moved", interval=0.005)
    killed.kill()
    unacknowledged = int(console.ask("journal.client().hlen('unacked')"))
    assert unacknowledged <= 1
    # Celery's visibility timeout, without the wait.
    console.ask(
        "[c.qos.restore_visible(start=0, num=10) for c in [app.connection_for_write().channel()]"
        " if setattr(c, 'visibility_timeout', 0) is None] and None"
    )
    assert drained(shop, "--to", "kafka")["moved"] > 0
    shop.kafka_worker()
    wait_for(lambda: len(runs(shop)) >= 400, "all were executed")
    found = runs(shop)
    assert set(found) == set(ids)
    assert sum(found.values()) - len(ids) <= unacknowledged
