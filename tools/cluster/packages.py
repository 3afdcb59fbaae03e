"""The programs that come from Debian, in one place: what CI installs, and what `up` looks for."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import MissingPackage

__all__ = ["PACKAGES", "apt_line", "missing", "require"]

PACKAGES: dict[str, tuple[str, ...]] = {
    "containerd": ("containerd", "ctr"),
    "containernetworking-plugins": ("/usr/lib/cni/bridge", "/usr/lib/cni/host-local", "/usr/lib/cni/loopback"),
    "etcd-server": ("etcd",),
    "iproute2": ("ip",),
    "nftables": ("nft",),
    "openssl": ("openssl",),
    "runc": ("runc",),
    "util-linux": ("unshare", "nsenter", "mount"),
}
"""Package -> the programs that are used of it: names looked up on the PATH, or files."""

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find(program: str) -> str | None:
    """Return the program's path. The system's folders count too: a user's PATH often lacks them, sudo's has them."""
    if program.startswith("/"):
        return program if Path(program).exists() else None
    return shutil.which(program) or shutil.which(program, path=":".join(_SYSTEM_FOLDERS))


def missing() -> list[str]:
    """Return the Debian packages of which a program is not there."""
    return [name for name, programs in PACKAGES.items() if not all(map(find, programs))]


def apt_line(names: Iterable[str]) -> str:
    """Return the command that installs the packages."""
    return f"apt-get install --no-install-recommends {' '.join(names)}"


def require() -> None:
    """Raise MissingPackage, with the command that helps, unless every program is there."""
    if names := missing():
        raise MissingPackage(f"The cluster needs Debian packages that are not installed: {apt_line(names)}")
