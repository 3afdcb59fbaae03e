"""Mayan EDMS as it is run in the trial: its environment, its processes, and the lines that are changed in it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import ndiff
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fieldtrial.installed import TrialError, package

CHANGES = {
    "celery.py": "import taskbridge\ntaskbridge.install(app)\n",
    "settings/production.py": (
        'INSTALLED_APPS += ("taskbridge.contrib.django",)\nfrom mayan_bridge import TASKBRIDGE\n'
    ),
}
"""What is appended to files of Mayan's: all that it takes."""

TRAFFIC = """
import io, sys
import django
django.setup()
from PIL import Image
from django.core.files.base import ContentFile
from mayan.apps.documents.models import DocumentType
from mayan.apps.documents.tasks.document_tasks import task_document_upload
from mayan.apps.storage.models import SharedUploadedFile

kind, _ = DocumentType.objects.get_or_create(label="Letters")
for number in range(int(sys.argv[1])):
    picture = io.BytesIO()
    Image.new("RGB", (80, 80), (number * 5 % 255, 100, 100)).save(picture, "PNG")
    shared = SharedUploadedFile.objects.create(file=ContentFile(picture.getvalue(), name=f"letter-{number}.png"))
    task_document_upload.apply_async(kwargs={"document_type_id": kind.pk, "shared_uploaded_file_id": shared.pk})
"""
"""Uploads documents as Mayan's own upload view does; each sets a dozen further tasks going."""

WAITING = """
import json
import django
django.setup()
from mayan.apps.documents.models import Document
from mayan.celery import app
from taskbridge.adapters.celery.queues import depth

queued = depth(app, app.amqp.queues)
active = app.control.inspect(timeout=3).active() or {}
documents = [document for document in Document.objects.all() if document.version_active]
print(json.dumps([queued + sum(map(len, active.values())), len(documents)]))
"""
"""Tells how many tasks wait or run, and how many documents have gone all the way."""

QUEUES = """
import django
django.setup()
from mayan.celery import app
print(",".join(sorted(app.amqp.queues)))
"""

READY_TIMEOUT = 90.0
"""Seconds for a process to say that it is ready."""


class Mayan:
    """A copy of Mayan's package in `folder`, with a database, media and processes of its own."""

    def __init__(self, python: Path, folder: Path, servers: Mapping[str, str]) -> None:
        self.folder = folder
        self._python = python
        self._original = package(python)
        self._processes: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        (folder / "media").mkdir(parents=True)
        shutil.copytree(self._original, folder / "mayan", ignore=shutil.ignore_patterns("__pycache__"))
        self.environment = _environment(folder, servers, python)

    def change(self) -> list[str]:
        """Make the changes; return the lines that differ from Mayan as it was installed, without blank ones."""
        different: list[str] = []
        for name, added in CHANGES.items():
            file = self.folder / "mayan" / name
            with file.open("a") as sink:
                sink.write(f"\n{added}")
            before = (self._original / name).read_text().splitlines()
            lines = ndiff(before, file.read_text().splitlines())
            different.extend(f"mayan/{name}: {line}" for line in lines if line[0] in "+-" and line[2:].strip())
        return different

    def run(self, *arguments: str, accept: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run Mayan's Python to its end; raise TrialError with what it said when its status is not accepted."""
        done = subprocess.run(
            [str(self._python), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode not in accept:
            shown = " ".join(arguments if arguments[0] != "-c" else arguments[2:])
            raise TrialError(f"`{shown}` ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def bridge(self, *arguments: str, accept: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run `taskbridge` on Mayan."""
        return self.run("-m", "taskbridge.cli", "-A", "mayan", *arguments, accept=accept)

    def ask(self, code: str, *arguments: str) -> Any:
        """Run code in Mayan's environment and return the JSON on its last line."""
        return json.loads(self.run("-c", code, *arguments).stdout.splitlines()[-1])

    def start(self, name: str, ready: str, *arguments: str) -> None:
        """Start a process in the background and return when `ready` stands in its log."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [str(self._python), *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._processes.append((name, process, log))

        def is_ready() -> bool:
            if process.poll() is not None:
                raise TrialError(f"{name} ended before it was ready; its log is {log}")
            return ready in log.read_text(errors="replace")

        wait_for(is_ready, f"{name} to be ready (log: {log})", READY_TIMEOUT)

    def end(self, name: str) -> None:
        """End one process in its orderly way, or by force when it takes too long."""
        for item in [item for item in self._processes if item[0] == name]:
            self._processes.remove(item)
            process = item[1]
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def stop(self) -> None:
        """End everything that was started."""
        for name, _, _ in list(self._processes):
            self.end(name)


def wait_for(condition: Callable[[], bool], what: str, timeout: float) -> None:
    """Return once the condition holds; raise TrialError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TrialError(f"waited {timeout:g} s for {what}")
        time.sleep(0.5)


def _environment(folder: Path, servers: Mapping[str, str], python: Path) -> dict[str, str]:
    database = urlsplit(servers["DATABASE_URL"])
    databases = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database.path.lstrip("/"),
            "HOST": database.hostname,
            "PORT": database.port,
            "USER": unquote(database.username or ""),
            "PASSWORD": unquote(database.password or ""),
        }
    }
    redis = servers["REDIS_URL"]
    return {
        **{name: os.environ[name] for name in ("HOME", "TMPDIR", "TERM") if name in os.environ},
        **{name: value for name, value in servers.items() if name.startswith("KAFKA_")},
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(folder),
        "PYTHONUNBUFFERED": "1",
        "C_FORCE_ROOT": "1",
        "DJANGO_SETTINGS_MODULE": "mayan.settings.production",
        "MAYAN_SECRET_KEY": secrets.token_urlsafe(50),
        "MAYAN_MEDIA_ROOT": str(folder / "media"),
        "MAYAN_DATABASES": json.dumps(databases),
        "MAYAN_CELERY_BROKER_URL": redis,
        "MAYAN_CELERY_RESULT_BACKEND": redis,
        "MAYAN_LOCK_MANAGER_BACKEND": "mayan.apps.lock_manager.backends.redis_lock.RedisLock",
        "MAYAN_LOCK_MANAGER_BACKEND_ARGUMENTS": json.dumps({"redis_url": redis}),
    }
