"""Ask a server, in its own protocol, whether it is ready to work."""

import socket
from collections.abc import Callable

import psycopg2
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from devstack.errors import NotReadyError

__all__ = ["PROBES", "probe_kafka", "probe_postgres", "probe_redis"]

_ATTEMPT = 2.0


def probe_postgres(url: str) -> None:
    """Run `SELECT 1`; raises NotReadyError."""
    try:
        connection = psycopg2.connect(url, connect_timeout=int(_ATTEMPT))
    except psycopg2.OperationalError as refused:
        raise NotReadyError(str(refused).strip()) from refused
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error as failed:
        raise NotReadyError(str(failed).strip()) from failed
    finally:
        connection.close()


def probe_redis(url: str) -> None:
    """Send PING; raises NotReadyError."""
    client = redis.Redis.from_url(url, socket_timeout=_ATTEMPT, socket_connect_timeout=_ATTEMPT)
    try:
        client.ping()
    except redis.RedisError as failed:
        raise NotReadyError(str(failed)) from failed
    finally:
        client.close()


def probe_kafka(bootstrap_servers: str) -> None:
    """List the brokers; raises NotReadyError."""
    host, _, port = bootstrap_servers.split(",", maxsplit=1)[0].rpartition(":")
    try:
        # The client keeps trying in the background and says so on stderr: give it a broker that listens.
        socket.create_connection((host, int(port)), timeout=_ATTEMPT).close()
    except OSError as refused:
        raise NotReadyError(str(refused)) from refused
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        metadata = client.list_topics(timeout=_ATTEMPT)
    except KafkaException as failed:
        raise NotReadyError(str(failed)) from failed
    if not metadata.brokers:
        raise NotReadyError("no broker has registered yet")


PROBES: dict[str, Callable[[str], None]] = {
    "postgres": probe_postgres,
    "redis": probe_redis,
    "kafka": probe_kafka,
}
