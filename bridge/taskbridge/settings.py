"""
What a project configures: the `TASKBRIDGE` mapping and the `KAFKA_*` environment.

    TASKBRIDGE = {
        "prefix": "shop",
        "salt": "any constant text",
        "services": {
            "orders": {"tasks": ["shop.orders.tasks.*"], "partitions": 6},
        },
    }
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from taskbridge.exceptions import ConfigurationError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Prefixes and services become parts of topic and group names: lower-case letters, digits, `-` and `_`."""

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")

GroupProtocol = Literal["consumer", "classic"]

PublishMode = Literal["confirm", "barrier", "outbox"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach Kafka, from the environment variables that the field uses."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanisms: str = ""
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    sasl_password_file: str = ""
    ssl_ca_location: str = ""
    ssl_certificate_location: str = ""
    ssl_key_location: str = ""
    ssl_key_password: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> KafkaSettings:
        """
        Read `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SASL_*` and `KAFKA_SSL_*`.

        Raises ConfigurationError naming the variable that is missing or wrong; a secret's value is never shown.
        """
        values = {
            item.name: environment.get("KAFKA_" + item.name.upper(), "").strip() or item.default for item in fields(cls)
        }
        if values["bootstrap_servers"] is MISSING:
            raise ConfigurationError("KAFKA_BOOTSTRAP_SERVERS is not set: give the brokers as host:port,host:port")
        settings = cls(**{name: str(value) for name, value in values.items()})
        settings._validate()
        return settings

    def _validate(self) -> None:
        protocol = self.security_protocol
        if protocol not in SECURITY_PROTOCOLS:
            raise ConfigurationError(
                f"KAFKA_SECURITY_PROTOCOL is {protocol!r}: it must be one of {', '.join(SECURITY_PROTOCOLS)}"
            )
        if protocol.startswith("SASL"):
            needed = {
                "KAFKA_SASL_MECHANISMS": self.sasl_mechanisms,
                "KAFKA_SASL_USERNAME": self.sasl_username,
                "KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE": self.sasl_password or self.sasl_password_file,
            }
            absent = [name for name, value in needed.items() if not value]
            if absent:
                raise ConfigurationError(f"KAFKA_SECURITY_PROTOCOL={protocol} also needs {', '.join(absent)}")
        if self.sasl_password and self.sasl_password_file:
            raise ConfigurationError(
                "KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set: unset the one that is not meant"
            )
        self.password()
        for name in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ConfigurationError(f"KAFKA_{name.upper()} names {path}, which is not a file")

    def password(self) -> str:
        """
        Return the SASL password: where a file is named, what it holds at this moment.

        Raises ConfigurationError when the file cannot be read or is empty.
        """
        if not self.sasl_password_file:
            return self.sasl_password
        try:
            password = Path(self.sasl_password_file).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigurationError(
                f"KAFKA_SASL_PASSWORD_FILE names {self.sasl_password_file}, which cannot be read: {why}"
            ) from None
        if not password:
            raise ConfigurationError(f"KAFKA_SASL_PASSWORD_FILE names {self.sasl_password_file}, which is empty")
        return password

    def client_config(self) -> dict[str, str]:
        """
        Return librdkafka's properties for these settings; empty ones are left out.

        Raises ConfigurationError when the password's file cannot be read.
        """
        values = {item.name: str(getattr(self, item.name)) for item in fields(self)}
        del values["sasl_password_file"]
        values["sasl_password"] = self.password()
        return {name.replace("_", "."): value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """One service: a set of tasks that is cut over together, and its topic."""

    name: str

    tasks: tuple[str, ...] = ()
    """Task names or patterns (`*` and `?`); the first service that matches has the task."""

    queues: tuple[str, ...] = ()
    """Celery queues whose tasks belong to the service where no pattern says otherwise."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Task name pattern -> name of the argument that is the business key. Default: the task id."""

    partitions: int = 6
    """Partitions of each of the service's topics; changed only while the service is quiet."""

    replication_factor: int = -1
    """Replicas of each partition; -1 leaves it to the brokers' default."""

    retention: float = 14 * 86400.0
    """Seconds that records are kept; keep it below the brokers' offset retention."""

    floor: str = "off"
    """Stage that holds while the flag was never read or is unreadable: `off` until a service is complete."""

    max_deliveries: int = 3
    """How often a record is given to an executor that dies of it before it is dead-lettered."""

    observe: bool = True
    """Write observations, without which there is no report."""

    publish: PublishMode = "confirm"
    """When a dispatch returns: after the broker's acknowledgement, before it (`barrier`), or as a row (`outbox`)."""

    outbox_database: str = ""
    """With publish=outbox: Django alias of the database whose transactions the rows join; empty: `database`."""

    ordered: bool = False
    """Keep the order of messages with one key, also while keys change side."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of a project's configuration."""

    kafka: KafkaSettings
    services: Mapping[str, ServiceSettings]

    prefix: str = "taskbridge"
    """First part of every topic's and consumer group's name."""

    salt: str = "taskbridge"
    """Mixed into every bucket; changing it moves keys between the sides, so do not."""

    database: str = "default"
    """Django database alias that holds flags and pending rows (PostgreSQL)."""

    group_protocol: GroupProtocol = "consumer"
    """`consumer` (KIP-848, brokers from 4.0) or `classic`."""

    flag_max_age: float = 1.0
    """Seconds that a process may use a flag before it looks again."""

    flag_stale_after: float = 10.0
    """Seconds of unreadable flags after which the floor stage holds."""

    publish_timeout: float = 5.0
    """Seconds to wait for a broker's acknowledgement before a publish counts as ambiguous."""

    breaker_seconds: float = 5.0
    """Seconds that dispatches go straight to Celery after a publish failed, before Kafka is tried again."""

    max_message_bytes: int = 1_000_000
    """Largest record; a larger message is refused at dispatch."""

    max_pending: int = 1_000_000
    """Most rows that may wait in `delayed` or `outbox`; beyond it dispatch raises."""

    copy_buffer: int = 20_000
    """Copies and observations that may wait for the broker in one process; beyond it they are lost and counted."""

    once_lease: float = 60.0
    """Seconds, or the hard time limit, after which another process may run a `once=True` task of one out of reach."""

    quiet_before_complete: float = 86_400.0
    """Seconds for which Celery's broker must have received nothing of a service before it may be `complete`."""

    api_tokens: str = ""
    """Folder with one file per client of the HTTP API: its name is who, its content the bearer token; empty: no API."""

    drain_timeout: float = 25.0
    """Seconds to finish running tasks after SIGTERM; keep it below the pod's terminationGracePeriodSeconds."""

    stuck_after: float = 60.0
    """Seconds without a turn of its loop after which a worker or a relay says on /healthz that it is stuck."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
        """
        Validate a `TASKBRIDGE` mapping.

        Raises ConfigurationError that names the key, for an unknown key, a wrong type or a wrong value.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigurationError("TASKBRIDGE must be a mapping of settings")
        values = dict(mapping)
        services = values.pop("services", None)
        if not isinstance(services, Mapping) or not services:
            raise ConfigurationError('TASKBRIDGE["services"] must name at least one service')
        if "kafka" in values:
            raise ConfigurationError('TASKBRIDGE["kafka"] is not a setting: Kafka is configured by KAFKA_* variables')
        _check_types(cls, values, 'TASKBRIDGE["{}"]', skip=("kafka", "services"))
        _check_positive(values, 'TASKBRIDGE["{}"]')
        built: dict[str, ServiceSettings] = {}
        for name, options in services.items():
            built[_checked_name(name, "service")] = _service(name, options)
        if "prefix" in values:
            _checked_name(values["prefix"], 'TASKBRIDGE["prefix"]')
        if values.get("group_protocol", "consumer") not in get_args(GroupProtocol):
            raise ConfigurationError('TASKBRIDGE["group_protocol"] must be "consumer" or "classic"')
        return cls(kafka=KafkaSettings.from_environment(environment), services=MappingProxyType(built), **values)

    def service(self, name: str) -> ServiceSettings:
        """Return a service by name; raise ConfigurationError that lists the known ones."""
        try:
            return self.services[name]
        except KeyError:
            known = ", ".join(sorted(self.services))
            raise ConfigurationError(f"there is no service {name!r}; TASKBRIDGE names: {known}") from None

    def topic(self, service: str) -> str:
        """Return the topic of records that are executed for real."""
        return f"{self.prefix}.{service}"

    def shadow_topic(self, service: str) -> str:
        """Return the topic of copies, which are only compared."""
        return f"{self.prefix}.{service}.shadow"

    def dead_letter_topic(self, service: str) -> str:
        """Return the topic of records that will not run."""
        return f"{self.prefix}.{service}.dlq"

    @property
    def observations_topic(self) -> str:
        """The topic on which all sides write what they did."""
        return f"{self.prefix}.observations"

    def group(self, service: str, role: str = "live") -> str:
        """Return the consumer group of a service's workers."""
        return f"{self.prefix}.{service}" + ("" if role == "live" else f".{role}")


def _service(name: str, options: Any) -> ServiceSettings:
    if not isinstance(options, Mapping):
        raise ConfigurationError(f'TASKBRIDGE["services"]["{name}"] must be a mapping')
    values = dict(options)
    place = f'TASKBRIDGE["services"]["{name}"]' + '["{}"]'
    for key in ("tasks", "queues"):
        if isinstance(values.get(key), list):
            values[key] = tuple(values[key])
    _check_types(ServiceSettings, values, place, skip=("name",))
    if not values.get("tasks") and not values.get("queues"):
        raise ConfigurationError(f'TASKBRIDGE["services"]["{name}"] needs "tasks" or "queues": it would match nothing')
    if values.get("replication_factor") == -1:
        del values["replication_factor"]
    _check_positive(values, place)
    if values.get("publish", "confirm") not in get_args(PublishMode):
        raise ConfigurationError(f'{place.format("publish")} must be "confirm", "barrier" or "outbox"')
    if values.get("ordered") and values.get("publish", "confirm") != "confirm":
        raise ConfigurationError(f'{place.format("ordered")} goes with "confirm" only, not with {values["publish"]!r}')
    return ServiceSettings(name=name, **values)


def _checked_name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{what} {name!r}: use up to 63 lower-case letters, digits, - and _, beginning with a letter or digit"
        )
    return name


def _check_positive(values: Mapping[str, Any], place: str) -> None:
    for key, value in values.items():
        # Written so that NaN does not pass.
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < float("inf"):
            raise ConfigurationError(f"{place.format(key)} must be above 0, not {value!r}")


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a string"),
    "int": ((int,), "an integer"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "True or False"),
    "tuple[str, ...]": ((tuple,), "a list of strings"),
    "Mapping[str, str]": ((Mapping,), "a mapping of strings"),
    "GroupProtocol": ((str,), "a string"),
    "PublishMode": ((str,), "a string"),
}


def _check_types(cls: type[Any], values: Mapping[str, Any], place: str, skip: tuple[str, ...]) -> None:
    known = {item.name: str(item.type) for item in fields(cls) if item.name not in skip}
    for key, value in values.items():
        if key not in known:
            raise ConfigurationError(f"{place.format(key)} is not a setting; known: {', '.join(sorted(known))}")
        types, words = _TYPES[known[key]]
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ()
        wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
        if wrong or any(not isinstance(item, str) for item in inner):
            raise ConfigurationError(f"{place.format(key)} must be {words}, not {value!r}")
