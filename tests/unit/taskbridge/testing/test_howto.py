"""The tests that the documentation shows, run as a project's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tests.documents import ROOT, blocks

FILES = {
    "mysite/__init__.py": "",
    "mysite/settings.py": """
        SECRET_KEY = "of no use"
        INSTALLED_APPS = ["taskbridge.contrib.django"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        TASKBRIDGE = {"services": {"orders": {"tasks": ["mysite.tasks.*"], "keys": {"*": "order"}}}}
    """,
    "mysite/celery.py": """
        import django
        import taskbridge
        from celery import Celery
        app = Celery("mysite", broker="redis://localhost:1", backend="redis://localhost:1")
        app.conf.task_always_eager = True
        taskbridge.install(app)
        django.setup()
    """,
    "mysite/tasks.py": """
        from celery import shared_task
        @shared_task
        def confirm(order): ...
        @shared_task
        def remind(order): ...
    """,
}


def test_the_example_passes_without_any_server(tmp_path: Path) -> None:
    [example] = [
        block for block in blocks(ROOT / "docs" / "howto" / "test-your-project.md") if block.language == "python"
    ]
    for name, text in {**FILES, example.directive.removeprefix("file: "): example.text}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "REDIS_"))}
    environment |= {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'bridge'}",
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
        "PYTHONWARNINGS": "error::DeprecationWarning:taskbridge",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{example.text.count('def test_')} passed" in done.stdout
