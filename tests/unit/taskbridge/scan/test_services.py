from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbridge.scan.facts import Place, Task
from taskbridge.scan.services import group, key_patterns, service_name
from taskbridge.settings import NAME, Settings


def task(name: str, queue: str = "celery") -> Task:
    return Task(name, name, Place("x.py", 1), queue=queue)


TASKS = [
    task("shop.orders.tasks.confirm", "orders"),
    task("shop.orders.tasks.reject", "orders"),
    task("shop.mail.tasks.send", "mail"),
    task("shop.mail.tasks.bulk.many", "Slow Mail!"),
    task("shop.reports.tasks.totals"),
]


def test_by_queue_and_by_package_for_the_default_queue() -> None:
    found = {service.name: service.mapping for service in group(TASKS, "celery")}
    assert found == {
        "orders": {"tasks": ["shop.orders.tasks.*"], "queues": ["orders"]},
        # A pattern would have both of these.
        "mail": {"queues": ["mail"]},
        "slow-mail": {"queues": ["Slow Mail!"]},
        "reports": {"tasks": ["shop.reports.tasks.*"]},
    }


def test_by_package() -> None:
    found = {service.name: service.mapping for service in group(TASKS, "celery", by_queue=False)}
    assert found == {
        "orders": {"tasks": ["shop.orders.tasks.*"]},
        "mail": {"tasks": ["shop.mail.tasks.*"]},
        "reports": {"tasks": ["shop.reports.tasks.*"]},
    }


def test_services_of_the_settings_stay() -> None:
    chosen = {"shop.mail.tasks.send": "letters"}
    names = {service.name: [item.name for item in service.tasks] for service in group(TASKS, "celery", chosen)}
    assert names["letters"] == ["shop.mail.tasks.send"]
    assert "mail" not in names


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b.tasks", "b.tasks.c", "b"]), st.text("xyz", min_size=1), st.sampled_from("pqr")
        ),
        unique_by=lambda item: item[:2],
        min_size=1,
    ),
    st.booleans(),
)
def test_every_task_is_in_one_service_and_the_settings_say_the_same(
    items: list[tuple[str, str, str]], by_queue: bool
) -> None:
    tasks = [task(f"{package}.{name}", queue) for package, name, queue in items]
    services = group(tasks, "p", by_queue=by_queue)
    assert sorted(item.name for service in services for item in service.tasks) == sorted(item.name for item in tasks)
    mapping = {service.name: dict(service.mapping) for service in services}
    settings = Settings.from_mapping({"services": mapping}, {"KAFKA_BOOTSTRAP_SERVERS": "-"})
    for service in services:
        for item in service.tasks:
            patterns = settings.services[service.name].tasks
            matched = [
                name for name, one in settings.services.items() if any(fnmatchcase(item.name, p) for p in one.tasks)
            ]
            assert matched == ([service.name] if patterns else [])
            assert patterns or item.queue in settings.services[service.name].queues


def test_keys_of_a_service() -> None:
    names = [task(f"t.{name}") for name in "abcd"]
    keys = {"t.a": "order_id", "t.b": "order_id", "t.c": "line_id"}
    assert key_patterns(names, keys) == {"t.c": "line_id", "*": "order_id"}
    assert key_patterns(names, {}) == {}


@pytest.mark.parametrize("text", ["Documents Fast", "a.b", "ünï", "", "---", "x" * 200, "9lives", "_hidden"])
def test_names_are_ones_that_settings_take(text: str) -> None:
    assert NAME.fullmatch(service_name(text))
