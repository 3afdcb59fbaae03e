"""
Pytest fixtures: real services for a test session, each started when the first test asks for it.

Load them with `pytest_plugins = ["devstack.fixtures"]`. Other servers are used only when the variables
TASKBRIDGE_TEST_DATABASE_URL, TASKBRIDGE_TEST_REDIS_URL and TASKBRIDGE_TEST_KAFKA_BOOTSTRAP_SERVERS name
them: tests create, drop and drain, and must never do so to whatever a shell happens to have exported.
"""

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from devstack.databases import fresh_database
from devstack.errors import DevstackError, NotReadyError
from devstack.probes import PROBES
from devstack.stack import Stack

__all__ = ["IGNORED_VARIABLES", "TEST_VARIABLES", "use_service"]

TEST_VARIABLES = {
    "postgres": "TASKBRIDGE_TEST_DATABASE_URL",
    "redis": "TASKBRIDGE_TEST_REDIS_URL",
    "kafka": "TASKBRIDGE_TEST_KAFKA_BOOTSTRAP_SERVERS",
}
IGNORED_VARIABLES = ("DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "KUBECONFIG")


_IGNORED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Take the shell's own servers out of the environment, also for processes that tests start."""
    patch = pytest.MonkeyPatch()
    config.stash[_IGNORED] = [variable for variable in IGNORED_VARIABLES if variable in os.environ]
    for variable in config.stash[_IGNORED]:
        patch.delenv(variable)
    config.add_cleanup(patch.undo)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which servers the tests use, and which variables they do not look at."""
    lines = []
    if named := [variable for variable in TEST_VARIABLES.values() if os.environ.get(variable)]:
        lines.append(f"devstack: the servers of {', '.join(named)} are used; tests create and remove data there")
    if ignored := config.stash[_IGNORED]:
        lines.append(
            f"devstack: your shell's {', '.join(ignored)} ignored; to test on other servers than devstack's own "
            f"set {', '.join(TEST_VARIABLES.values())}"
        )
    return lines


def use_service(stack: Stack, name: str) -> str:
    """Return the URL of the server that tests shall use, starting the stack's own if none is named."""
    variable = TEST_VARIABLES[name]
    if named := os.environ.get(variable):
        try:
            PROBES[name](named)
        except NotReadyError as silent:
            pytest.exit(f"{variable} names a server that does not answer: {silent}", returncode=2)
        return named
    try:
        stack.start(name)
    except DevstackError as failed:
        pytest.exit(str(failed), returncode=2)
    return stack[name].url


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack whose services start when they are asked for and end with the session."""
    services = Stack()
    try:
        yield services
    finally:
        services.stop()


@pytest.fixture(scope="session")
def database_url(stack: Stack) -> str:
    """The URL of a PostgreSQL superuser's database, shared by the session."""
    return use_service(stack, "postgres")


@pytest.fixture(scope="session")
def redis_url(stack: Stack) -> str:
    """The URL of a Redis database, shared by the session."""
    return use_service(stack, "redis")


@pytest.fixture(scope="session")
def kafka_bootstrap(stack: Stack) -> str:
    """The bootstrap servers of a Kafka cluster, shared by the session."""
    return use_service(stack, "kafka")


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics and consumer groups that no other test has."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def fresh_database_url(database_url: str) -> Iterator[str]:
    """The URL of an empty database that goes when the test ends, whoever is still connected."""
    with fresh_database(database_url) as url:
        yield url
