"""The commands `build`, `list` and `prune`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import click

from images import base, builder
from images.builder import Archive
from images.errors import ImagesError
from images.recipes import RECIPES, choose

__all__ = ["main"]

_MEGABYTE = 1_000_000


def _say(line: str) -> None:
    click.echo(line, err=True)


def _one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can mend into a message without a traceback, and exit status 1."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except ImagesError as failed:
            raise click.ClickException(str(failed)) from failed

    return run


_base_option = click.option(
    "--base",
    "kind",
    type=click.Choice(base.KINDS),
    default="local",
    show_default=True,
    help="Build on a Debian made here, or on the public image that the Containerfile names.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")


@click.group(
    epilog="""\b
Examples:
  python -m images build                   all images
  python -m images build shop --json
  python -m images build shop --base public
  python -m images list

\b
Needs buildah; with the local base also debootstrap and root; for kafka also Maven.
Archives are kept in $XDG_CACHE_HOME/taskbridge (~/.cache/taskbridge).

\b
Exit status: 0 done; 1 something failed, the message says what to do; 2 wrong use."""
)
def main() -> None:
    """Container images of the shop and of its servers, as archives that a cluster's nodes can load."""


@main.command(
    epilog="""\b
Examples:
  python -m images build
  python -m images build shop kafka
  python -m images build shop --json"""
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_base_option
@_json_option
@_one_sentence
def build(names: tuple[str, ...], kind: str, as_json: bool) -> None:
    """
    Build the named images, or all, unless nothing changed; print name, archive and reference of each.

    The reference's tag is a hash of all that goes into the image: the same inputs have the same tag.
    """
    _print((builder.build(recipe, kind, _say) for recipe in choose(names)), as_json)


@main.command("list", epilog="Example: python -m images list --json")
@_base_option
@_json_option
@_one_sentence
def list_(kind: str, as_json: bool) -> None:
    """Print every image as it would be built now, and whether that was done."""
    archives = [builder.described(recipe, kind) for recipe in RECIPES.values()]
    if as_json:
        _print(archives, as_json=True)
        return
    for archive in archives:
        state = "not built" if archive.size is None else f"{archive.size / _MEGABYTE:.0f} MB"
        click.echo(f"{archive.reference:<32} {state:<10} {RECIPES[archive.name].purpose}")


def _print(archives: Iterable[Archive], as_json: bool) -> None:
    rows = []
    for archive in archives:
        row = {"name": archive.name, "archive": str(archive.path), "reference": archive.reference}
        rows.append({**row, "size": archive.size})
        if not as_json:
            click.echo("\t".join(row.values()))
    if as_json:
        click.echo(json.dumps(rows))


@main.command(epilog="Example: python -m images prune")
@_one_sentence
def prune() -> None:
    """Remove all archives, local bases and layers from the cache; the next build makes them anew."""
    gone = builder.prune()
    click.echo(f"Removed {len(gone)} folders and all layers." if gone else "Removed all layers.")
