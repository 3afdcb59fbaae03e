"""Servers that these tests alone use: they are killed and paused, which must never happen to anybody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from devstack.databases import fresh_database
from devstack.stack import Stack
from tests.integration.faults.scene import Scene
from tests.project.harness import project


@pytest.fixture(scope="package")
def own() -> Iterator[Stack]:
    """PostgreSQL, Redis and Kafka of this folder, whatever TASKBRIDGE_TEST_* names for the others."""
    with Stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def scene(own: Stack, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The small project on these servers; a module's `SETTINGS` go into its environment."""
    options = getattr(request.module, "SETTINGS", {})
    with fresh_database(own["postgres"].url) as url:
        servers = {**own.environment, "DATABASE_URL": url}
        directory: Path = tmp_path_factory.mktemp("faults")
        with project(directory, f"t{uuid4().hex[:10]}", servers, **options) as one:
            try:
                yield Scene(one, own)
            finally:
                _restore(own)


@pytest.fixture(autouse=True)
def _whole_again(own: Stack) -> Iterator[None]:
    """Whatever a test did to the servers, the next one finds them running."""
    yield
    _restore(own)


def _restore(stack: Stack) -> None:
    for service in stack.services.values():
        service.resume()
        service.start()
