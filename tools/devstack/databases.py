"""Databases that come and go within a PostgreSQL cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

__all__ = ["fresh_database"]


@contextmanager
def fresh_database(database_url: str) -> Iterator[str]:
    """Yield the URL of a new, empty database; it goes at the end, whoever is still connected."""
    name = f"test_{uuid4().hex[:12]}"
    identifier = sql.Identifier(name)
    _run(database_url, sql.SQL("CREATE DATABASE {}").format(identifier))
    try:
        yield urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))
    finally:
        _run(database_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def _run(url: str, statement: sql.Composed) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
