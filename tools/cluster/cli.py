"""The commands of `python -m cluster`."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from cluster import cache, gotools, packages, report
from cluster.errors import ClusterError
from cluster.lifecycle import DEFAULT_STORAGE, Cluster, image_of

__all__ = ["main"]

_CHECKOUT = Path(__file__).resolve().parents[2]


def _default_state_dir() -> Path:
    return cache.root() / f"cluster-{cache.digest([str(_CHECKOUT)])}"


def _say(line: str) -> None:
    click.echo(line, err=True)


def _state_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=_default_state_dir,
        show_default="a folder of the cache, one per checkout",
        help="Where kubeconfig and logs are kept; one cluster per folder.",
    )(command)


def _one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can mend into a message without a traceback, and exit status 1."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except ClusterError as failed:
            raise click.ClickException(str(failed)) from failed

    return run


@click.group(
    epilog="""\b
Examples:
  python -m cluster up                        start two nodes, wait until they are ready
  python -m cluster load image.tar            put an image on both nodes
  python -m cluster kubectl get pods -A
  python -m cluster shell                     a shell with KUBECONFIG, kubectl and helm
  python -m cluster down                      end it; nothing is left

\b
Exit status: 0 done; 1 something failed, the message says what to do;
2 wrong use; 3 (status) the cluster is not ready."""
)
def main() -> None:
    """A real Kubernetes of two nodes in namespaces of this machine; needs Linux and root."""


@main.command(
    epilog="""\b
Examples:
  python -m cluster up
  python -m cluster up --state-dir /tmp/second     a second one beside the first"""
)
@_state_dir_option
@click.option(
    "--storage",
    default=DEFAULT_STORAGE,
    show_default=True,
    metavar="SIZE",
    help="Memory that images, containers and volumes of both nodes may take up, such as 8g or 900m.",
)
@_one_sentence
def up(state_dir: Path, storage: str) -> None:
    """Start the cluster and wait until its nodes and its DNS are ready; leaves one that runs as it is."""
    began = time.monotonic()
    cluster = Cluster(state_dir, _say)
    started = cluster.up(storage)
    click.echo(f"Ready after {time.monotonic() - began:.1f} s." if started else "It was running already.")
    option = "" if state_dir == _default_state_dir() else f" --state-dir {shlex.quote(str(state_dir))}"
    click.echo(f"Use it:  export KUBECONFIG={shlex.quote(str(cluster.layout.kubeconfig))}")
    click.echo(f"Stop it: python -m cluster down{option}")


@main.command()
@_state_dir_option
@_one_sentence
def down(state_dir: Path) -> None:
    """End the cluster; its processes, networks, mounts, images and volumes go with it."""
    click.echo("The cluster is gone." if Cluster(state_dir, _say).down() else "There was no cluster.")


@main.command(
    epilog="""\b
Examples:
  python -m cluster load shop.tar kafka.tar"""
)
@_state_dir_option
@click.argument("archives", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_one_sentence
def load(state_dir: Path, archives: tuple[Path, ...]) -> None:
    """Put the images of archives (as `docker save` writes them, or OCI) on both nodes."""
    cluster = Cluster(state_dir, _say)
    for archive in archives:
        cluster.load(archive)
        click.echo(f"Loaded {archive}.")


@main.command()
@_state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_one_sentence
def status(state_dir: Path, as_json: bool) -> None:
    """Show the nodes, and where kubeconfig and logs are; exit status 3 unless everything is ready."""
    found = report.describe(Cluster(state_dir, _say))
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(report.as_text(found))
    if not found["ready"]:
        sys.exit(3)


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  python -m cluster kubectl get pods -A
  python -m cluster kubectl --state-dir /tmp/second get nodes""",
)
@_state_dir_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_one_sentence
def kubectl(state_dir: Path, arguments: tuple[str, ...]) -> None:
    """Run kubectl, of the cluster's version, on the cluster."""
    cluster = Cluster(state_dir, _say)
    cluster.require_running()
    _become([str(gotools.program("kubectl", _say)), *arguments], cluster)


@main.command()
@_state_dir_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_one_sentence
def shell(state_dir: Path, command: tuple[str, ...]) -> None:
    """Start a shell, or after -- a command, with KUBECONFIG set and with kubectl and helm on the PATH."""
    cluster = Cluster(state_dir, _say)
    cluster.require_running()
    _become(list(command) or [os.environ.get("SHELL") or "/bin/sh"], cluster, "kubernetes", "helm")


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  python -m cluster node node2 nft list ruleset
  python -m cluster node node1 ctr -n k8s.io images ls""",
)
@_state_dir_option
@click.argument("name", type=click.Choice(["node1", "node2"]))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_one_sentence
def node(state_dir: Path, name: str, command: tuple[str, ...]) -> None:
    """Run a command inside the namespaces of a node."""
    cluster = Cluster(state_dir, _say)
    _become([*cluster.enter(name), *command], cluster)


def _become(command: list[str], cluster: Cluster, *on_path: str) -> NoReturn:
    """Go on as the command, with KUBECONFIG set and the programs of the tools `on_path` before others."""
    folders = [str(gotools.ensure(name, _say)) for name in on_path]
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "KUBECONFIG": str(cluster.layout.kubeconfig), "PATH": path}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606
    except OSError as failed:
        raise ClusterError(f"{command[0]} could not be run: {failed.strerror}.") from failed


@main.command(
    epilog="""\b
Examples:
  python -m cluster tools                      build all that are missing
  python -m cluster tools helm kube-score"""
)
@click.argument("names", nargs=-1, type=click.Choice(list(gotools.TOOLS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, program to path.")
@_one_sentence
def tools(names: tuple[str, ...], as_json: bool) -> None:
    """Build the programs for Kubernetes work that are missing in the cache; print the path of each."""
    found: dict[str, str] = {}
    for name in names or tuple(gotools.TOOLS):
        folder = gotools.ensure(name, _say)
        found |= {program: str(folder / program) for program in gotools.TOOLS[name].programs}
    if as_json:
        click.echo(json.dumps(found))
        return
    for path in found.values():
        click.echo(path)


@main.command(
    epilog="""\b
Examples:
  "$(python -m cluster tool helm)" lint --strict charts/shop"""
)
@click.argument("name")
@_one_sentence
def tool(name: str) -> None:
    """Print the path of one program, built first if need be."""
    click.echo(gotools.program(name, _say))


@main.command("probe-image")
@_one_sentence
def probe_image() -> None:
    """Print the archive of a small image with a server and a client, to see how the cluster's network behaves."""
    click.echo(image_of("probe", _say))


@main.command("packages")
@click.option("--missing", is_flag=True, help="Only those that are not installed.")
@_one_sentence
def packages_command(missing: bool) -> None:
    """Print the Debian packages that the cluster needs, one per line."""
    for name in packages.missing() if missing else packages.PACKAGES:
        click.echo(name)
