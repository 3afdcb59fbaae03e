"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from devstack.databases import fresh_database
from tests.project.harness import Project, project

pytest_plugins = ["devstack.fixtures"]


@pytest.fixture(scope="module")
def servers(database_url: str, redis_url: str, kafka_bootstrap: str) -> Iterator[dict[str, str]]:
    """The environment in which a project finds its servers; the database is the module's own."""
    with fresh_database(database_url) as url:
        yield {"DATABASE_URL": url, "REDIS_URL": redis_url, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}


@pytest.fixture(scope="module")
def bridged(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The small project of `tests/project`, migrated, with nothing running yet."""
    with project(tmp_path_factory.mktemp("bridged"), f"t{uuid4().hex[:10]}", servers) as one:
        yield one
