"""An image from its recipe: its tag, and its archive in the user's cache, built unless it is there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from images import base, caches, containerfile, inputs, jars, network
from images.errors import ImagesError
from images.recipes import RECIPES, ROOT, Recipe
from images.store import OPTIONS, Store

__all__ = ["Archive", "build", "described", "prune"]

_KEPT = 3
"""How many archives of one image stay: those of the last inputs it was built from."""


@dataclass(frozen=True)
class Archive:
    """One image as a file, which may not be built yet."""

    name: str
    reference: str
    """The name under which Kubernetes finds it once it is loaded; the tag is a hash of all that goes into it."""

    path: Path

    @property
    def is_built(self) -> bool:
        """Whether the file is there; it is complete then."""
        return self.path.is_file()

    @property
    def size(self) -> int | None:
        """Its bytes, or None before it is built."""
        return self.path.stat().st_size if self.is_built else None


def described(recipe: Recipe, kind: str) -> Archive:
    """Return the archive of an image as its inputs are now; raises ImagesError where one is not there."""
    return _archive(recipe, inputs.digest(ROOT, _files(recipe), _further(recipe, kind)))


def build(recipe: Recipe, kind: str, report: Callable[[str], None]) -> Archive:
    """
    Return the archive of an image, which is built first unless that was done.

    `kind` names the base: `local` or `public`. Safe to call from several processes. Raises ImagesError.
    """
    archive = described(recipe, kind)
    if not archive.is_built:
        caches.root().mkdir(parents=True, exist_ok=True)
        with caches.locked("images"), tempfile.TemporaryDirectory(dir=caches.root(), prefix="building-") as scratch:
            # What is hashed and what is built are the same copy, even if somebody is editing the checkout.
            context, files = Path(scratch) / "context", _files(recipe)
            inputs.stage(ROOT, files, context)
            archive = _archive(recipe, inputs.digest(context, files, _further(recipe, kind)))
            make = partial(_make, archive, recipe, kind, context, report)
            caches.made_once(archive.path.parent, f"archive-{recipe.name}", make)
            _forget_older(recipe)
    os.utime(archive.path.parent)
    return archive


def _archive(recipe: Recipe, tag: str) -> Archive:
    path = caches.folder(f"image-{recipe.name}", tag) / "image.tar"
    return Archive(recipe.name, f"taskbridge/{recipe.name}:{tag}", path)


def _make(
    archive: Archive, recipe: Recipe, kind: str, context: Path, report: Callable[[str], None], draft: Path
) -> None:
    store = Store()
    image = base.provide(recipe, kind, store, report)
    folders = {name: jars.fetch(ROOT / pom, report) for name, pom in recipe.jars.items()}
    report(f"Building {archive.reference} …")
    private = context.parent / "secrets"
    private.mkdir(mode=0o700)
    labels = {"org.opencontainers.image.version": _version(), "org.opencontainers.image.base.name": image}
    inside = context / "images" / recipe.name / "Containerfile"
    secrets = network.secrets(private, network.pip_settings(network.listed()))
    built = store.build(inside, context, None, {"BASE": image}, labels, secrets, folders)
    store.export(built, draft / "image.tar", archive.reference)


def prune() -> list[Path]:
    """Remove all archives, bases and layers, and what killed builds left; return the folders that are gone."""
    # Images of the cluster itself lie beside ours, under locks that are not held here.
    archives = [f"{prefix}image-{name}-*" for name in RECIPES for prefix in ("", "making-")]
    made = (*archives, "base-debian-*", "building-*", "making-base-debian-*")
    with caches.locked("images"):
        Store().wipe()
        gone = [path for pattern in made for path in caches.root().glob(pattern)]
        for path in gone:
            shutil.rmtree(path)
    return gone


def _files(recipe: Recipe) -> list[Path]:
    own = recipe.containerfile.relative_to(ROOT)
    return inputs.files(ROOT, [str(own), *containerfile.read(recipe.containerfile).sources])


def _further(recipe: Recipe, kind: str) -> dict[str, str]:
    further = {"base": base.identity(recipe, kind), "version": _version(), "options": " ".join(OPTIONS)}
    for name, pom in recipe.jars.items():
        content = b"\0".join(file.read_bytes() for file in jars.projects(ROOT / pom))
        further[f"jars {name}"] = hashlib.sha256(content).hexdigest()
    return further


def _version() -> str:
    found = re.search(r'^__version__ = "([^"]+)"', (ROOT / "bridge/taskbridge/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise ImagesError("bridge/taskbridge/__init__.py does not say __version__: images are labelled with it.")
    return found[1]


def _forget_older(recipe: Recipe) -> None:
    folders = caches.root().glob(f"image-{recipe.name}-*")
    for path in sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(path)
