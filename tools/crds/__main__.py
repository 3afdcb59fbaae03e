"""`python -m crds`: definitions of the resources that the charts render and Kubernetes itself does not know."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click

from crds.errors import CrdsError
from crds.prometheus import make_prometheus
from crds.strimzi import make_strimzi

SOURCES: dict[str, Callable[[Callable[[str], None]], Path]] = {"strimzi": make_strimzi, "prometheus": make_prometheus}


@click.command(
    epilog="""\b
Examples:
  python -m crds
  python -m crds strimzi --out build/crds
  kubectl apply --server-side -f "$(python -m crds strimzi)"

\b
Exit status: 0 done; 1 something failed, the message says what to do; 2 wrong use."""
)
@click.argument("sources", nargs=-1, metavar="[strimzi|prometheus]...", type=click.Choice(list(SOURCES)))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Copy the files there; else they stay in the cache."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: source -> its files.")
def main(sources: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """
    Make the CustomResourceDefinitions of Strimzi and of the Prometheus operator, and print the folders they are in.

    Strimzi's are generated from its own Java classes (Maven, Java 21 or later), the Prometheus operator's come with its
    Go module. They are made once and kept in the cache.
    """
    try:
        folders = {name: SOURCES[name](lambda line: click.echo(line, err=True)) for name in sources or tuple(SOURCES)}
    except CrdsError as failed:
        raise click.ClickException(str(failed)) from failed
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, folder in folders.items():
            target = out / name
            shutil.copytree(folder, target, dirs_exist_ok=True)
            folders[name] = target
    if as_json:
        click.echo(
            json.dumps(
                {name: [str(file) for file in sorted(folder.glob("*.yaml"))] for name, folder in folders.items()}
            )
        )
        return
    for folder in folders.values():
        click.echo(folder)


if __name__ == "__main__":
    main(prog_name="python -m crds")
