"""How much waits in Celery's queues."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu.exceptions import OperationalError

from taskbridge.exceptions import BrokerUnavailable

CONNECT_TIMEOUT = 3.0
"""Seconds to reach Celery's broker for a question that nothing depends on."""


def depth(app: Any, queues: Iterable[str]) -> int:
    """
    Return how many messages wait in these queues together, as the broker counts them; a missing queue holds none.

    What a worker has fetched already is not counted. Raises BrokerUnavailable.
    """
    total = 0
    try:
        with app.connection_for_read(connect_timeout=CONNECT_TIMEOUT) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT)
            for queue in queues:
                # The broker closes a channel on which a queue is missing.
                with connection.channel() as channel:
                    try:
                        total += channel.queue_declare(queue=queue, passive=True).message_count
                    except connection.channel_errors as error:
                        if "NOT_FOUND" not in str(error):
                            raise
    except (OperationalError, OSError) as error:
        raise BrokerUnavailable(f"Celery's broker does not answer: {error}") from error
    return total
