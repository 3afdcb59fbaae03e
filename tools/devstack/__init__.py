"""PostgreSQL, Redis and Kafka for development and tests, as local processes from packages alone."""

from devstack.errors import DevstackError
from devstack.service import Service
from devstack.stack import SERVICES, Stack

__all__ = ["SERVICES", "DevstackError", "Service", "Stack"]
