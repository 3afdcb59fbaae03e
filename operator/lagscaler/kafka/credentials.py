"""Who the operator is to Kafka: passwords and certificates as files that change while it runs."""

from __future__ import annotations

import ssl
from pathlib import Path

from lagscaler.settings import ClusterSettings


class LoginRefused(Exception):
    """Kafka and the operator do not accept each other; the sentence tells why and what to look at."""


class Credentials:
    """
    The files of one cluster, read when a connection is made.

    They are small and in memory where Kubernetes mounts them, so reading them does not hold the event loop up.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self.generation = 0
        """How often files were seen to have been replaced."""
        self._read = self._marks()
        self._context: ssl.SSLContext | None = None

    def changed(self) -> bool:
        """Return whether a file was replaced since this was last asked."""
        marks = self._marks()
        if marks == self._read:
            return False
        self._read, self._context = marks, None
        self.generation += 1
        return True

    def password(self) -> str:
        """Return the password; raise LoginRefused when its file cannot be read."""
        path = self.settings.password_file
        if path is None:
            raise LoginRefused(f"cluster {self.settings.name} has no passwordFile, and its brokers ask for a login")
        try:
            return path.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise LoginRefused(f"the password of cluster {self.settings.name} cannot be read: {error}") from error

    def context(self) -> ssl.SSLContext | None:
        """Return how to speak TLS, or None where it is not spoken; raise LoginRefused for files that do not do."""
        settings = self.settings
        if settings.security_protocol not in {"SSL", "SASL_SSL"}:
            return None
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=settings.ca_file)
                if settings.certificate_file is not None:
                    # Without a password OpenSSL would ask for it at the terminal, and everything would wait.
                    self._context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
            except (OSError, ValueError) as error:
                self._context = None
                raise LoginRefused(
                    f"the certificates of cluster {settings.name} cannot be used: {error}; check caFile,"
                    " certificateFile and keyFile, which must not be encrypted"
                ) from error
        return self._context

    def _marks(self) -> list[tuple[int, int, int] | None]:
        settings = self.settings
        files = (settings.password_file, settings.ca_file, settings.certificate_file, settings.key_file)
        return [_mark(path) for path in files if path is not None]


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one state of a file from another."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino, state.st_size
