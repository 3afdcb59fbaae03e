"""
The images' bases: public ones by name, or a Debian made here where no registry can be reached.

The local base stands in for trials and tests. Its packages are those of the archive on the day it is made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from images import caches, containerfile, inputs, programs
from images.errors import MissingToolError
from images.recipes import ROOT, Recipe
from images.store import OPTIONS, Store

__all__ = ["KINDS", "identity", "provide"]

KINDS = ("local", "public")
"""Where a base comes from."""

_SUITE = "bookworm"
_INCLUDED = "ca-certificates"
_PYTHON = "images/base/Containerfile"

_ADDED = {
    # Packages must not start their servers while an image is built.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/dpkg/dpkg.cfg.d/no-documentation": (
        "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n"
        "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/info/*\npath-exclude=/usr/share/locale/*\n"
    ),
    "etc/hostname": "",
    "etc/resolv.conf": "",
    "etc/machine-id": "",
}
_LEFT_OUT = (
    "./dev/*",
    "./var/cache/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./var/lib/dpkg/*-old",
    "./usr/share/man/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
)


def identity(recipe: Recipe, kind: str) -> str:
    """Return the reference of the image that a recipe is built on; a local one's changes with what goes into it."""
    if kind == "public":
        return containerfile.read(recipe.containerfile).default_base
    return _python() if recipe.needs_python else _debian()


def provide(recipe: Recipe, kind: str, store: Store, report: Callable[[str], None]) -> str:
    """Return the same reference when the image is in the store, or is public; raises ImagesError."""
    reference = identity(recipe, kind)
    if kind == "local" and not store.has(reference):
        if recipe.needs_python:
            _provide_debian(store, report)
            report("Adding Python to the base …")
            context = caches.root() / "empty"
            context.mkdir(exist_ok=True)
            store.build(ROOT / _PYTHON, context, reference, {"BASE": _debian()})
        else:
            _provide_debian(store, report)
    return reference


def _debian() -> str:
    return f"localhost/taskbridge-base/debian:{_key()}"


def _python() -> str:
    return f"localhost/taskbridge-base/python:{inputs.digest(ROOT, [Path(_PYTHON)], {'base': _debian()})}"


def _key() -> str:
    parts = (_SUITE, _INCLUDED, *OPTIONS, repr(sorted(_ADDED.items())), repr(_LEFT_OUT))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _provide_debian(store: Store, report: Callable[[str], None]) -> None:
    if store.has(_debian()):
        return

    def make(draft: Path) -> None:
        report(f"Making a base of Debian {_SUITE} with debootstrap (about a minute, only this once) …")
        _bootstrap(draft)
        (draft / "Containerfile").write_text('FROM scratch\nADD rootfs.tar /\nCMD ["sh"]\n')

    made = caches.made_once(caches.folder("base-debian", _key()), "base", make)
    store.build(made / "Containerfile", made, _debian(), {})


def _bootstrap(target: Path) -> None:
    """Leave `rootfs.tar` in the target folder."""
    programs.find("debootstrap")
    if os.geteuid() != 0:
        raise MissingToolError(
            "A local base is made with debootstrap, which only root may run: run this as root, or build on the "
            "public base with `--base public`."
        )
    tree = target / "tree"
    # In a mount namespace of its own: however it ends, it leaves no /proc mounted in what is removed then.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={_INCLUDED}", _SUITE, str(tree)]
    surroundings = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": "/tmp"}  # noqa: S108
    programs.run("The base could not be made", command, surroundings)
    for name, text in _ADDED.items():
        file = tree / name
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    documents = [path for path in (tree / "usr/share/doc").rglob("*") if path.is_file() and path.name != "copyright"]
    for path in documents:
        path.unlink()
    excluded = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    order = ["--sort=name", "--mtime=@0", "--numeric-owner", "--anchored", "--wildcards"]
    programs.run(
        "The base could not be packed",
        ["tar", *order, *excluded, "-cf", str(target / "rootfs.tar"), "-C", str(tree), "."],
    )
    shutil.rmtree(tree)
