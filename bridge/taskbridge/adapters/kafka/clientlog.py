"""What librdkafka has to say of itself, without its repetitions."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError

from taskbridge.dispatch import ThrottledLog


class ClientLog:
    """
    Errors that belong to no record, and lines of the client's own log; give it to a client as its `logger`.

    A broker that is away causes some at every attempt to reach it, ten a second.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._log = ThrottledLog(logger)

    def error(self, error: KafkaError) -> None:
        """Take an error."""
        self._log.warning(error.name(), "Kafka: %s", error.str())

    def log(self, level: int, text: str, *arguments: object) -> None:
        """Take a line; the client gives its kind as the first argument."""
        self._log.log(level, str(arguments[:1]), text, *arguments)
