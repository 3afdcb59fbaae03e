"""
What the shop reads from its environment, turned into values.

Nothing here touches Django, so that every rule can be tested without settings.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"", "0", "false", "no", "off"})


class EnvironmentProblem(ValueError):
    """A variable is missing or cannot be read; the message is the sentence for the user."""


def required(environ: Mapping[str, str], name: str, example: str) -> str:
    """Return a variable's value; raise EnvironmentProblem when it is unset or empty."""
    value = environ.get(name, "").strip()
    if not value:
        raise EnvironmentProblem(f"{name} is not set: set it to something like {example}.")
    return value


def flag(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Return a yes-or-no variable; raise EnvironmentProblem for any other word."""
    word = environ.get(name, "1" if default else "").strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise EnvironmentProblem(f"{name} is {word!r}: set it to 1 or 0.")


def number(environ: Mapping[str, str], name: str, default: float) -> float:
    """Return a number that is not negative; raise EnvironmentProblem for anything else."""
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise EnvironmentProblem(f"{name} is {text!r}: set it to a number, zero or more.")
    return value


def words(environ: Mapping[str, str], name: str, default: str = "") -> list[str]:
    """Return the parts of a comma-separated variable, without empty ones."""
    return [word.strip() for word in environ.get(name, default).split(",") if word.strip()]


def database(url: str) -> dict[str, Any]:
    """
    Return Django's settings for one PostgreSQL database given as a URL.

    `?host=` names a directory of sockets; every other query parameter is handed to libpq.
    The URL itself, which may hold a password, is never part of an error.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise EnvironmentProblem(
            f"DATABASE_URL begins with {parts.scheme or 'no scheme'!r}: "
            "set it to something like postgresql://user:password@localhost:5432/shop."
        )
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise EnvironmentProblem("DATABASE_URL names no database: end it with one, as in …:5432/shop.")
    try:
        port = parts.port
    except ValueError:
        raise EnvironmentProblem("DATABASE_URL has a port that is no number: write it as in …:5432/shop.") from None
    options = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or options.pop("user", "")),
        "PASSWORD": unquote(parts.password or options.pop("password", "")),
        "HOST": host,
        "PORT": str(port or options.pop("port", "")),
        "OPTIONS": options,
    }


def redis_database(url: str, index: int) -> str:
    """Return the URL of one numbered database of the Redis server that `url` names."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise EnvironmentProblem("REDIS_URL is no Redis address: set it to something like redis://localhost:6379.")
    return urlunsplit(parts._replace(path=f"/{index}"))


def email(url: str) -> dict[str, Any]:
    """
    Return the settings of outgoing mail given as a URL.

    `smtp://` and `smtps://` name a real server (`smtp://…?starttls=1`). `file:///directory` and
    `memory:` are for rehearsals: a model of a mail server that greylists and refuses some
    addresses stands before the directory or the list.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return {
            "EMAIL_BACKEND": "shop.notifications.rehearsal.EmailBackend",
            "REHEARSAL_EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": unquote(parts.path),
        }
    if parts.scheme == "memory":
        return {
            "EMAIL_BACKEND": "shop.notifications.rehearsal.EmailBackend",
            "REHEARSAL_EMAIL_BACKEND": "django.core.mail.backends.locmem.EmailBackend",
        }
    if parts.scheme in {"smtp", "smtps"} and parts.hostname:
        implicit_tls = parts.scheme == "smtps"
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "EMAIL_HOST": parts.hostname,
            "EMAIL_PORT": parts.port or (465 if implicit_tls else 25),
            "EMAIL_HOST_USER": unquote(parts.username or ""),
            "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
            "EMAIL_USE_SSL": implicit_tls,
            "EMAIL_USE_TLS": not implicit_tls and dict(parse_qsl(parts.query)).get("starttls") == "1",
            "EMAIL_TIMEOUT": 10,
        }
    raise EnvironmentProblem(
        "EMAIL_URL is no address for mail: set it to smtp://host:25, file:///directory or memory:."
    )
