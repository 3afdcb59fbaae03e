"""The operator's own settings: which Kafka clusters and bridges it may use, and where it looks for resources."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
POLL = 5.0
"""Seconds between two looks at a bridge, where nothing else is said."""
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

Address = tuple[str, int]
"""A host and a port."""

DEFAULT_PORT = 9092
"""Of a bootstrap server that is named without one."""

_SERVER = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<host>[\w.-]+))(?::(?P<port>[0-9]{1,5}))?")

EVERY_NAMESPACE = "*"
"""In a list of namespaces: each one that is served."""


class SettingsError(Exception):
    """The settings cannot be used; the sentence names the place and the remedy."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How one Kafka cluster is reached. Files are read by whoever connects, again when they change."""

    name: str
    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    """With `key_file`: the client's own certificate, where brokers ask for one."""
    key_file: Path | None = None
    namespaces: tuple[str, ...] = ()
    """Whose KafkaConsumers may name it; none: nobody's."""

    def admits(self, namespace: str) -> bool:
        """Return whether resources of a namespace may use it."""
        return namespace in self.namespaces or EVERY_NAMESPACE in self.namespaces


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """How one bridge's HTTP API is reached; `url` is where the API is mounted, without a slash at its end."""

    name: str
    url: str
    token_file: Path
    ca_file: Path | None = None
    poll: float = POLL
    """Seconds between two looks at how its services stand."""
    namespaces: tuple[str, ...] = ()
    """Whose Cutovers may move its services, and whose KafkaConsumers see their stages; none: nobody's."""

    def admits(self, namespace: str) -> bool:
        """Return whether resources of a namespace may use it."""
        return namespace in self.namespaces or EVERY_NAMESPACE in self.namespaces


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them; an empty `namespaces` here means the whole Kubernetes cluster."""

    clusters: Mapping[str, ClusterSettings] = field(default_factory=dict)
    bridges: Mapping[str, BridgeSettings] = field(default_factory=dict)
    namespaces: tuple[str, ...] = ()
    scaled_objects: bool = False
    """Whether KEDA's ScaledObjects are looked for; needs the right to list and watch them."""


def parse_settings(text: str, where: str = "the settings") -> Settings:
    """
    Return the settings of a YAML document.

    Raises SettingsError with one sentence for what is not YAML, an unknown or missing field, or a value of another
    type.
    """
    try:
        document = yaml.load(text, OnceOnly)  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{where}: this is not YAML: {' '.join(str(error).split())}") from error
    root = _Section({} if document is None else document, where)
    settings = Settings(
        clusters={name: _cluster(name, section) for name, section in root.sections("clusters")},
        bridges={name: _bridge(name, section) for name, section in root.sections("bridges")},
        namespaces=root.texts("namespaces"),
        scaled_objects=root.flag("scaledObjects"),
    )
    root.done()
    return settings


def read_settings(path: Path) -> Settings:
    """Return the settings of a file; raise SettingsError when it cannot be read or used."""
    return parse_settings(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return the text of a settings file; raise SettingsError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{path} cannot be read: {said}; name the file with --config") from error


def _cluster(name: str, section: _Section) -> ClusterSettings:
    protocol = section.choice("securityProtocol", SECURITY_PROTOCOLS) or "PLAINTEXT"
    found = ClusterSettings(
        name=name,
        bootstrap_servers=section.required("bootstrapServers"),
        security_protocol=protocol,
        sasl_mechanism=section.choice("saslMechanism", SASL_MECHANISMS),
        username=section.text("username"),
        password_file=section.path("passwordFile"),
        ca_file=section.path("caFile"),
        certificate_file=section.path("certificateFile"),
        key_file=section.path("keyFile"),
        namespaces=section.texts("namespaces"),
    )
    section.done()
    _check_credentials(found, section.where)
    addresses(found.bootstrap_servers, section.where)
    if (found.certificate_file is None) != (found.key_file is None):
        raise SettingsError(f"{section.where}: certificateFile and keyFile go together")
    return found


def _check_credentials(found: ClusterSettings, where: str) -> None:
    """Raise SettingsError for what the protocol needs and lacks, and for what it has no use for: it was forgotten."""
    protocol = found.security_protocol
    login = {"saslMechanism": found.sasl_mechanism, "username": found.username, "passwordFile": found.password_file}
    files = {"caFile": found.ca_file, "certificateFile": found.certificate_file, "keyFile": found.key_file}
    for name, value in login.items():
        if value is None and protocol.startswith("SASL"):
            raise SettingsError(f"{where}: {protocol} needs {name}")
        if value is not None and not protocol.startswith("SASL"):
            raise SettingsError(
                f"{where}: {name} goes with the securityProtocol SASL_SSL or SASL_PLAINTEXT, not {protocol}"
            )
    for name, value in files.items():
        if value is not None and not protocol.endswith("SSL"):
            raise SettingsError(f"{where}: {name} goes with the securityProtocol SSL or SASL_SSL, not {protocol}")


def addresses(bootstrap_servers: str, where: str) -> list[Address]:
    """Return the hosts and ports; raise SettingsError for what is not `host:port` or `[IPv6]:port`."""
    found = []
    for text in bootstrap_servers.split(","):
        match = _SERVER.fullmatch(text.strip())
        port = int(match["port"] or DEFAULT_PORT) if match else 0
        if match is None or not 1 <= port <= 65535:
            raise SettingsError(f"{where}: {text.strip()!r} in bootstrapServers is not host:port, such as kafka:9092")
        found.append((match["ipv6"] or match["host"], port))
    return found


def _bridge(name: str, section: _Section) -> BridgeSettings:
    url = section.required("url").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"{section.where}.url: {url!r} does not begin with http:// or https://")
    token = section.path("tokenFile")
    if token is None:
        raise SettingsError(f"{section.where}: tokenFile is missing: a file with a token of the bridge's api_tokens")
    found = BridgeSettings(
        name=name,
        url=url,
        token_file=token,
        ca_file=section.path("caFile"),
        poll=section.seconds("pollSeconds", POLL),
        namespaces=section.texts("namespaces"),
    )
    section.done()
    return found


class OnceOnly(yaml.SafeLoader):  # type: ignore[misc]
    """Reads YAML, and refuses a key that stands twice in a mapping: otherwise the last one would count, in silence."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Return a mapping as it is written; raise yaml.YAMLError."""
        found = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in found.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return found


class _Section:
    """One mapping of the document, of which every key must be asked for."""

    def __init__(self, document: Any, where: str) -> None:
        if not isinstance(document, dict):
            raise SettingsError(f"{where} must be a mapping of names to values")
        self.where = where
        self._left: dict[Any, Any] = dict(document)

    def done(self) -> None:
        if self._left:
            raise SettingsError(f"{self.where}: there is no setting {next(iter(self._left))!r}")

    def required(self, name: str) -> str:
        found = self.text(name)
        if found is None:
            raise SettingsError(f"{self.where}: {name} is missing")
        return found

    def text(self, name: str) -> str | None:
        found: str | None = self._take(name, lambda value: isinstance(value, str) and value != "", "a text", None)
        return found

    def path(self, name: str) -> Path | None:
        found = self.text(name)
        return None if found is None else Path(found)

    def flag(self, name: str) -> bool:
        return bool(self._take(name, lambda value: isinstance(value, bool), "true or false", default=False))

    def seconds(self, name: str, default: float) -> float:
        def fits(value: Any) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 3600

        return float(self._take(name, fits, "a number from 1 to 3600", default))

    def choice(self, name: str, known: tuple[str, ...]) -> str | None:
        found: str | None = self._take(name, lambda value: value in known, f"one of {', '.join(known)}", None)
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        def fits(value: Any) -> bool:
            return isinstance(value, list) and all(isinstance(one, str) and one for one in value)

        return tuple(self._take(name, fits, "a list of names", ()))

    def sections(self, name: str) -> list[tuple[str, _Section]]:
        found = self._take(name, lambda value: isinstance(value, dict), "a mapping of names to settings", {})
        return [(str(key), _Section(value, f"{self.where}: {name}.{key}")) for key, value in found.items()]

    def _take(self, name: str, fits: Callable[[Any], bool], words: str, default: Any) -> Any:
        value = self._left.pop(name, None)
        if value is None:
            return default
        if not fits(value):
            raise SettingsError(f"{self.where}: {name} must be {words}, not {value!r}")
        return value
