from __future__ import annotations

from collections.abc import Callable

import pytest

from taskbridge.scan import Project, tasks

Write = Callable[[dict[str, str]], Project]

APP = "from celery import Celery\nmine = Celery('x')\napp = mine\n"


@pytest.mark.parametrize(
    ("head", "decorator"),
    [
        ("from celery import shared_task", "@shared_task"),
        ("from celery import shared_task as later", "@later(acks_late=True)"),
        ("import celery", "@celery.shared_task()"),
        ("from shop.main import mine", "@mine.task"),
        ("from shop.main import app", "@app.task(bind=False)"),
        ("from unknown import celery_app", "@celery_app.task"),
        ("from celery import shared_task\nfrom x import other", "@other\n@shared_task"),
    ],
)
def test_ways_to_declare_a_task(project: Write, head: str, decorator: str) -> None:
    found = project({"shop/main.py": APP, "shop/jobs.py": f"{head}\n{decorator}\ndef work(order_id, note=''): ...\n"})
    [task] = tasks(found)
    assert (task.name, task.code, task.module) == ("shop.jobs.work", "shop.jobs.work", "shop.jobs")
    assert [(item.name, item.required) for item in task.parameters] == [("order_id", True), ("note", False)]


@pytest.mark.parametrize("decorator", ["@huey.task()", "@task", "@property", "@invoke.task"])
def test_what_is_no_task_of_celerys(project: Write, decorator: str) -> None:
    assert not list(tasks(project({"shop/jobs.py": f"import huey, invoke\n{decorator}\ndef work(): ...\n"})))


def test_options_name_and_self(project: Write) -> None:
    found = project(
        {
            "shop/jobs.py": """
                from celery import shared_task
                LIMIT = 2 * 60
                @shared_task(bind=True, name="named.work", time_limit=LIMIT, queue="slow", throws=(KeyError,),
                             acks_late=False)
                def work(self, one, *, two, three=3): ...
            """
        }
    )
    [task] = tasks(found)
    assert (task.name, task.queue) == ("named.work", "slow")
    assert task.options == {"bind": True, "time_limit": 120, "queue": "slow", "throws": "(KeyError,)"}
    assert [(item.name, item.required) for item in task.parameters] == [("one", True), ("two", True), ("three", False)]


def test_classes(project: Write) -> None:
    found = project(
        {
            "shop/jobs.py": """
                from celery import Task
                class Base(Task):
                    abstract = True
                class Work(Task):
                    name = "class.work"
                    acks_late = True
                    def run(self, order_id): ...
                class Other:
                    def run(self): ...
            """
        }
    )
    [task] = tasks(found)
    assert (task.name, task.code, task.options) == (
        "class.work",
        "shop.jobs.Work.run",
        {"bind": True, "acks_late": True},
    )
    assert [item.name for item in task.parameters] == ["order_id"]
