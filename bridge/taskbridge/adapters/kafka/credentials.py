"""A password that changes while its clients run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from taskbridge.dispatch import ThrottledLog
from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import KafkaSettings

logger = logging.getLogger("taskbridge.kafka")

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the file."""


class SaslClient(Protocol):
    """A client of any kind."""

    def set_sasl_credentials(self, username: str, password: str) -> None:
        """Use these from the next connection on."""
        ...


class Credentials:
    """
    The SASL password of one client, kept to the file that `KAFKA_SASL_PASSWORD_FILE` names.

    A connection that stands goes on; a new one, and one that Kafka asks again, uses what the file held a second ago at
    most. So a rotation loses nothing as long as the file has the new password before the old connections end. Whoever
    uses the client looks at the file, also while it waits for an answer: there is no thread.
    """

    def __init__(self, kafka: KafkaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._kafka = kafka
        self._clock = clock
        self._log = ThrottledLog(logger)
        self._given = ""
        self._changing = bool(kafka.sasl_password_file)
        self._look_at = float("-inf")
        self.patience = LOOK_INTERVAL if self._changing else float("inf")
        """Seconds that a wait for the client's servers may last before `renew` is called again."""

    def begin(self) -> dict[str, str]:
        """Return the client's properties, with the present password; raise ConfigurationError without one."""
        config = self._kafka.client_config()
        self._given = config.get("sasl.password", "")
        return config

    def renew(self, client: SaslClient) -> None:
        """Give the client the password in the file, if that has changed; a file that cannot be read changes nothing."""
        if not self._changing:
            return
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL
        try:
            password = self._kafka.password()
        except ConfigurationError as error:
            self._log.warning("password", "%s; the password that was read before is used on", error)
            return
        if password != self._given:
            client.set_sasl_credentials(self._kafka.sasl_username, password)
            self._given = password
            logger.info("the password of Kafka user %s has changed; new connections use it", self._kafka.sasl_username)
