"""Projects of a few lines, read as the scan reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from taskbridge.scan import App, Judged, Project, Result, judge, read, survey, tasks

Scan = Callable[..., Result]

HEAD = "from celery import shared_task, chain, group, current_app\nfrom django.db import transaction\n"


@pytest.fixture
def project(tmp_path: Path) -> Callable[[dict[str, str]], Project]:
    def write(files: dict[str, str]) -> Project:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        for folder in [folder for folder in tmp_path.rglob("*") if folder.is_dir()]:
            (folder / "__init__.py").touch()
        return read([tmp_path])

    return write


@pytest.fixture
def scan(project: Callable[[dict[str, str]], Project]) -> Scan:
    """Scan `shop/tasks.py`, written below the usual imports, with other files beside it."""

    def run(text: str, files: dict[str, str] | None = None, app: App | None = None) -> Result:
        found = project({"shop/tasks.py": HEAD + dedent(text), **(files or {})})
        return judge(found, survey(found), list(tasks(found)), app)

    return run


@pytest.fixture
def one(scan: Scan) -> Callable[..., Judged]:
    """Scan and return the task called `work`."""

    def run(text: str, files: dict[str, str] | None = None) -> Judged:
        return next(item for item in scan(text, files).tasks if item.task.name.endswith(".work"))

    return run
