"""The bridge's tables in a PostgreSQL database of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import django
import psycopg2
import pytest
from django.conf import settings
from django.db import connections
from django.db.migrations.executor import MigrationExecutor


@pytest.fixture(scope="session")
def _migrated_alias(database_url: str) -> Iterator[str]:
    if not settings.configured and "DJANGO_SETTINGS_MODULE" not in os.environ:
        settings.configure(INSTALLED_APPS=["taskbridge.contrib.django"], USE_TZ=True)
    django.setup()
    # The audit may be emptied in a database of this name only.
    name = f"test_bridge_{uuid4().hex[:12]}"
    _execute(database_url, f"CREATE DATABASE {name}")
    url = urlsplit(database_url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": url.hostname,
        "PORT": url.port,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "NAME": name,
    }
    connections.settings[name] = connections.configure_settings({"default": {}, name: database})[name]
    executor = MigrationExecutor(connections[name])
    executor.migrate(executor.loader.graph.leaf_nodes("taskbridge"))
    yield name
    connections[name].close()
    del connections[name]
    del connections.settings[name]
    _execute(database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def alias(_migrated_alias: str) -> Iterator[str]:
    """An alias of Django's for a database with the bridge's tables, which are empty."""
    known = dict(connections.settings[_migrated_alias])
    with connections[_migrated_alias].cursor() as cursor:
        cursor.execute(
            "TRUNCATE taskbridge_service_flag, taskbridge_task_flag, taskbridge_transition, taskbridge_delayed,"
            " taskbridge_outbox, taskbridge_sending, taskbridge_execution RESTART IDENTITY"
        )
    yield _migrated_alias
    connections.settings[_migrated_alias].update(known)


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
