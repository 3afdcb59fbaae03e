"""Buildah, with a store of its own in the user's cache: other images of the machine are neither used nor touched."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from images import caches, programs

__all__ = ["OPTIONS", "Store"]

# Docker's own format holds a host name and ids of this build, and the label the version of buildah.
OPTIONS = ("--isolation=chroot", "--format=oci", "--identity-label=false", "--timestamp=0")
"""How every image is built: the same bytes from the same inputs, as far as packages allow."""


class Store:
    """The images and layers that were built here, for faster builds."""

    def __init__(self) -> None:
        programs.find("buildah")
        self._folder = caches.root() / "containers"
        self._command = ["buildah", "--root", str(self._folder / "storage"), "--runroot", str(self._folder / "run")]

    def has(self, reference: str) -> bool:
        """Say whether an image is here."""
        asked = subprocess.run([*self._command, "images", "--quiet", reference], capture_output=True, check=False)
        return asked.returncode == 0

    def build(
        self,
        containerfile: Path,
        context: Path,
        reference: str | None,
        arguments: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        secrets: Mapping[str, Path] | None = None,
        folders: Mapping[str, Path] | None = None,
    ) -> str:
        """
        Build an image from a folder, keep it under the reference if there is one, and return its id.

        Labels whose values vary are given here: a layer with a label out of an argument would be taken from the cache
        with the value of an earlier build. `secrets` are mounted while something is installed, `folders` are contexts
        to copy from by name. Raises BuildFailedError.
        """
        options = ["--layers", *OPTIONS]
        options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--label={name}={value}" for name, value in (labels or {}).items()]
        options += [f"--secret=id={name},src={path}" for name, path in (secrets or {}).items()]
        options += [f"--build-context={name}={path}" for name, path in (folders or {}).items()]
        if reference is not None:
            options += ["--tag", reference]
        command = [*self._command, "bud", "--quiet", *options, "--file", str(containerfile), str(context)]
        return programs.run(f"{containerfile} could not be built", command).strip().splitlines()[-1]

    def export(self, image: str, archive: Path, name: str) -> None:
        """Write an image, given by its id, as an archive (docker-archive, not compressed) that calls it by the name."""
        target = f"docker-archive:{archive}:{name}"
        programs.run(f"{name} could not be written to {archive}", [*self._command, "push", "--quiet", image, target])

    def wipe(self) -> None:
        """Remove every image and layer."""
        if self._folder.exists():
            programs.run("The store could not be emptied", [*self._command, "rmi", "--all", "--force"])
            shutil.rmtree(self._folder)
