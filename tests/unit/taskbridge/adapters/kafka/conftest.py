"""A broker of librdkafka's own, which speaks the real protocol from inside this process."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from taskbridge.settings import KafkaSettings, ServiceSettings, Settings

TOPICS = ("taskbridge.orders", "taskbridge.orders.shadow", "taskbridge.observations")


def configured(bootstrap: str, **options: Any) -> Settings:
    services = {"orders": ServiceSettings("orders", tasks=("orders.*",))}
    return Settings(KafkaSettings(bootstrap), services, **options)


@pytest.fixture(scope="session")
def mock_broker() -> Iterator[str]:
    """The address of a broker that has the topics of one service."""
    host = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    for topic in TOPICS:
        host.produce(topic, b"made")
    assert host.flush(10) == 0
    brokers = host.list_topics(timeout=60).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    # Clients that a test left notice that this broker goes; nobody needs to read it.
    logging.getLogger("taskbridge.kafka").addHandler(logging.NullHandler())
    del host


@pytest.fixture
def consume(mock_broker: str) -> Iterator[Callable[..., list[Any]]]:
    """Return a function that reads records of a topic from its present end on, once it was told to `begin`."""
    from confluent_kafka import TopicPartition

    consumers: list[Consumer] = []

    def begin(topic: str) -> Callable[[int], list[Any]]:
        consumer = Consumer(
            {"bootstrap.servers": mock_broker, "group.id": f"g{len(consumers)}", "enable.auto.commit": False}
        )
        consumers.append(consumer)
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        ends = [
            TopicPartition(topic, number, consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60)[1])
            for number in partitions
        ]
        consumer.assign(ends)

        def read(count: int) -> list[Any]:
            found: list[Any] = []
            for _ in range(100):
                found.extend(consumer.consume(count - len(found), timeout=0.2))
                if len(found) >= count:
                    break
            return found

        return read

    yield begin
    for consumer in consumers:
        consumer.close()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of something that takes connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for connection in taken:
        connection.close()
    thread.join(60)
