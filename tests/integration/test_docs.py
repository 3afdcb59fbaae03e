"""The how-to is followed to the letter, in a project that knew nothing of the bridge before."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.documents import ROOT, Block, blocks
from tests.project.harness import Started, wait_for

HOWTO = ROOT / "docs" / "howto" / "bridge-your-project.md"
TROUBLE = ROOT / "docs" / "howto" / "when-something-fails.md"

KEYS = 60
"""Enough that some of them are among the first tenth."""

FILES = {
    "manage.py": """
        import os, sys
        from django.core.management import execute_from_command_line
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
        execute_from_command_line(sys.argv)
    """,
    "mysite/__init__.py": """
        from mysite.celery import app as celery_app
    """,
    "mysite/settings.py": """
        import os
        from urllib.parse import unquote, urlsplit
        database = urlsplit(os.environ["DATABASE_URL"])
        SECRET_KEY = os.urandom(16).hex()
        USE_TZ = True
        INSTALLED_APPS = ["mysite.mail"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        DATABASES = {"default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": database.path.lstrip("/"),
            "HOST": database.hostname, "PORT": database.port,
            "USER": unquote(database.username or ""), "PASSWORD": unquote(database.password or ""),
        }}
        CELERY_BROKER_URL = CELERY_RESULT_BACKEND = os.environ["REDIS_URL"]
        CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
        CELERY_TASK_DEFAULT_QUEUE = os.environ["MYSITE_QUEUE"]
    """,
    "mysite/celery.py": """
        import os
        from celery import Celery
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
        app = Celery("mysite")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
    """,
    "mysite/mail/__init__.py": "",
    "mysite/mail/tasks.py": """
        from celery import shared_task
        @shared_task
        def send(user_id):
            import taskbridge
            return [user_id, taskbridge.current_side()]
    """,
    "traffic.py": """
        import json, sys
        from mysite.mail.tasks import send
        results = [send.delay(user_id) for user_id in range(int(sys.argv[1]))]
        print(json.dumps([result.get(timeout=80) for result in results]))
    """,
}


class Reader:
    """Somebody who does what the how-to says, in a folder of their own."""

    def __init__(self, folder: Path, prefix: str, servers: dict[str, str]) -> None:
        self.folder = folder
        self.prefix = prefix
        self.started: list[Started] = []
        programs = folder / "bin"
        for name, content in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(re.sub(r"^ {8}", "", content, flags=re.MULTILINE))
        programs.mkdir()
        for name, arguments in {"python": "", "celery": "-m celery", "taskbridge": "-m taskbridge.cli"}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TASKBRIDGE_", "DJANGO_"))},
            **servers,
            "MYSITE_QUEUE": prefix,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}:{ROOT / 'bridge'}",
            "C_FORCE_ROOT": "1",
        }

    def follow(self, block: Block) -> None:
        """Do what one block says."""
        word, _, rest = block.directive.partition(" ")
        text = block.text.replace('"prefix": "mysite"', f'"prefix": "{self.prefix}"')
        actions: dict[str, Callable[[], object]] = {
            "": lambda: None,
            "append": lambda: self.append(rest, text),
            "run:": lambda: self.export(text),
            "run": lambda: wait_for(lambda: not self.shell(text).returncode, text) if rest else self.run(text),
            "start": lambda: self.start(text, ""),
            "start:": lambda: self.start(text, rest.strip('"')),
            "check:": lambda: self.check(rest),
        }
        actions[word]()

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"\n{text}\n")

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )

    def run(self, text: str) -> str:
        done = self.shell(text)
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def export(self, text: str) -> None:
        printed = self.run(f"{text}\n{self.environment['PATH'].split(':')[0]}/python -c '{PRINT_ENVIRONMENT}'")
        self.environment.update(json.loads(printed))

    def start(self, text: str, ready: str) -> None:
        log = self.folder / f"{len(self.started)}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                ["bash", "-euc", f"exec {text}"],
                cwd=self.folder,
                env=self.environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started.append(Started(text, process, log))
        if ready:
            self.started[-1].wait_for_output(ready)

    def check(self, side: str) -> None:
        """Dispatch tasks of many keys, and see where they run."""
        found = json.loads(self.run(f"python traffic.py {KEYS}"))
        assert [user_id for user_id, _ in found] == list(range(KEYS))
        assert {where for _, where in found} == ({"celery", "kafka"} if side == "both" else {side})

    def stop(self) -> None:
        """End what was started; a worker that does not end cleanly is a failure."""
        ended = {started.name: started.terminate() for started in reversed(self.started)}
        assert not any(ended.values()), ended


PRINT_ENVIRONMENT = 'import json, os; print(json.dumps({k: v for k, v in os.environ.items() if "BRIDGE" in k}))'


@pytest.fixture
def reader(tmp_path: Path, topic_prefix: str, servers: dict[str, str]) -> Iterator[Reader]:
    one = Reader(tmp_path, topic_prefix, servers)
    try:
        yield one
    finally:
        for started in one.started:
            if started.process.poll() is None:
                started.kill()


def script(name: str) -> str:
    return next(block.text for block in blocks(TROUBLE) if block.directive == f"file: {name}")


def malformed(servers: dict[str, str], topic: str) -> None:
    producer = Producer({"bootstrap.servers": servers["KAFKA_BOOTSTRAP_SERVERS"]})
    producer.produce(topic, b"no message of Celery's", b"key")
    assert producer.flush(10) == 0


@pytest.mark.timeout(300)
def test_the_howto_works_as_it_stands(reader: Reader, servers: dict[str, str]) -> None:
    directives: list[Any] = []
    for block in blocks(HOWTO):
        reader.follow(block)
        directives.append(block.directive)
    assert sum(directive.startswith("check:") for directive in directives) == 5

    # The workers still run: a record that nobody can read ends where the other how-to says.
    malformed(servers, f"{reader.prefix}.mail")
    (reader.folder / "dead_letters.py").write_text(script("dead_letters.py"))
    command = next(block for block in blocks(TROUBLE) if block.directive.startswith("run: dead_letters.py"))
    text = command.text.replace("mysite.", f"{reader.prefix}.")
    letter = wait_for(lambda: reader.run(text), "the dead letter")
    assert letter.rstrip().split("\t")[2] == "malformed"

    status = json.loads(reader.run("taskbridge status mail --json"))["services"][0]
    assert (status["stage"], status["lag_live"]["total"], status["dead_letters"]) == ("off", 0, 1)
    reader.stop()
