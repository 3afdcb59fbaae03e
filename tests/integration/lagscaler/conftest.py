"""A broker that asks who somebody is and what he may do, and an administrator who may do all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from devstack.secure_kafka import SecureKafka
from tests.integration.lagscaler.administrator import Administrator


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker of the module's own, which may be stopped and started."""
    server = SecureKafka(tmp_path_factory.mktemp("kafka"), owner=os.getpid(), dispose=True, report=print)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def admin(broker: SecureKafka) -> Administrator:
    """Who creates topics, users and rights."""
    return Administrator(broker)
