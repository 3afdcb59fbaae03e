"""The commands of `python -m lagscaler`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import yaml  # type: ignore[import-untyped]

from lagscaler import __version__
from lagscaler.policy.decide import decide
from lagscaler.policy.document import decision_document, parse_sample, parse_spec, parse_state
from lagscaler.policy.history import History
from lagscaler.policy.model import Decision, Sample, Spec, State
from lagscaler.resources.consumer import parse_consumer
from lagscaler.resources.cutover import parse_cutover
from lagscaler.resources.reading import GROUP, VERSION, InvalidResourceError, Section
from lagscaler.settings import OnceOnly, SettingsError, read_settings

__all__ = ["main"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")
_PARSERS = {"KafkaConsumer": parse_consumer, "Cutover": parse_cutover}


@click.group(
    epilog="""\b
Examples:
  python -m lagscaler run --config /etc/lagscaler/config.yaml
  python -m lagscaler validate --config config.yaml kcon.yaml cutovers/*.yaml
  curl -s localhost:8080/consumers/shop/orders/history | python -m lagscaler explain -

\b
Exit status: 0 done; 1 something failed or is not valid, the message says what to do; 2 wrong use."""
)
@click.version_option(__version__, prog_name="lagscaler")
def main() -> None:
    """Scale Kafka consumers on Kubernetes by seconds behind, and carry kubectl's requests to the bridge."""


@main.command(
    epilog="""\b
Examples:
  python -m lagscaler run --config config.yaml
  python -m lagscaler run --config config.yaml --http 127.0.0.1:9000 --log-level DEBUG

\b
Outside a pod the kubeconfig that KUBECONFIG names is used. The file is read again when it changes.
Exit status: 0 ended by SIGTERM or Ctrl-C; 1 the settings or the credentials cannot be used."""
)
@click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("/etc/lagscaler/config.yaml"),
    show_default=True,
    help="The settings: Kafka clusters, bridges, namespaces.",
)
@click.option(
    "--http",
    "address",
    default="0.0.0.0:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where /healthz, /readyz and /metrics are.",
)
@click.option("--log-level", type=click.Choice(_LEVELS, case_sensitive=False), default="INFO", show_default=True)
def run(path: Path, address: str, log_level: str) -> None:
    """Run the operator until SIGTERM."""
    from lagscaler.controller.process import Operator  # noqa: PLC0415 - the other commands need no Kubernetes
    from lagscaler.kubernetes.api import KubernetesError  # noqa: PLC0415

    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise click.UsageError(f"--http is HOST:PORT with a port from 1 to 65535, not {address!r}")
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    if log_level.upper() != "DEBUG":
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # The client's own lines name every request.
        logging.getLogger("kubernetes_asyncio").setLevel(logging.WARNING)

    async def work() -> None:
        await Operator(path, host.strip("[]"), int(port)).run()

    try:
        asyncio.run(work())
    except (SettingsError, KubernetesError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{address} cannot be listened on: {error.strerror}; name another with --http"
        ) from error


@main.command(
    epilog="""\b
Examples:
  curl -s localhost:8080/consumers/shop/orders/history > history.json
  python -m lagscaler explain history.json
  python -m lagscaler explain --all --json history.json

\b
The file has `history`, a list of samples, and may have `spec` and `state`, those that the last sample was decided with.
--all begins from the learned capacity alone: what was decided then may have been something else.
Exit status: 0 decided; 1 the file cannot be used."""
)
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--all", "every", is_flag=True, help="The decision at every sample, and not only at the last.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per decision.")
def explain(file: Any, every: bool, as_json: bool) -> None:
    """Decide on a saved history, and say why; `-` reads standard input."""
    samples, spec, state = _case(file)
    try:
        for decision in _decisions(samples, spec, state, every=every):
            _print(decision, as_json=as_json)
    except (ArithmeticError, ValueError) as error:
        raise click.ClickException(
            f"{file.name} holds values out of range, and cannot be decided on ({error}): check its spec"
        ) from error


def _print(decision: Decision, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(decision_document(decision)))
        return
    click.echo(f"{_counted(decision.replicas, 'replica')}: {decision.reason}. {decision.sentence}")
    for (topic, number), found in sorted(decision.partitions.items()):
        click.echo(f"  {topic}-{number}: {found}")


def _case(file: Any) -> tuple[list[Sample], Spec, State]:
    """Return what a history file holds."""
    try:
        document = json.load(file)
        if not isinstance(document, dict) or not document.get("history"):
            raise ValueError("it has no `history` with at least one sample")
        if not isinstance(document["history"], list):
            raise ValueError("history: a list is expected")  # noqa: TRY004 - the document is wrong, not the call
        samples = [parse_sample(one) for one in document["history"]]
        if any(one.at >= other.at for one, other in pairwise(samples)):
            raise ValueError("samples are not in ascending order of `at`")
        state = parse_state(document["state"]) if document.get("state") else State()
        return samples, parse_spec(document.get("spec") or {}), state
    except (ValueError, TypeError, KeyError) as error:
        raise click.ClickException(f"{file.name} is not a history: {error}") from error


def _decisions(samples: list[Sample], spec: Spec, state: State, *, every: bool) -> Iterator[Decision]:
    if not every:
        yield decide(samples, spec, state)
        return
    # The state is that of the end of the history, and much of it would be wrong at its beginning.
    state = State(capacity=state.capacity)
    history = History(spec.window)
    for sample in samples:
        history.add(sample)
        decision = decide(history, spec, state)
        state = decision.state
        yield decision


@main.command(
    epilog="""\b
Examples:
  python -m lagscaler validate --config config.yaml
  python -m lagscaler validate k8s/operator/*.yaml

\b
Exit status: 0 all are valid; 1 one is not."""
)
@click.option("--config", "path", type=click.Path(dir_okay=False, path_type=Path), help="A settings file.")
@click.argument("manifests", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def validate(path: Path | None, manifests: tuple[Path, ...]) -> None:
    """
    Check a settings file, and manifests of KafkaConsumers and Cutovers; other kinds are left out.

    Names of fields and kinds of values are checked; ranges are left to the API server: kubectl apply --dry-run=server.
    """
    if path is None and not manifests:
        raise click.UsageError("name a settings file with --config, or manifests")
    failures = []
    if path is not None:
        try:
            settings = read_settings(path)
            counts = (_counted(len(settings.clusters), "cluster"), _counted(len(settings.bridges), "bridge"))
            click.echo(f"{path}: {', '.join(counts)}")
        except SettingsError as error:
            failures.append(str(error))
    for manifest in manifests:
        failures += _check(manifest)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    sys.exit(1 if failures else 0)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _check(manifest: Path) -> Iterator[str]:
    """Print what a manifest holds, and return what is wrong with it."""
    try:
        documents = list(yaml.load_all(manifest.read_text(encoding="utf-8"), OnceOnly))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        yield f"{manifest} cannot be read: {' '.join(str(error).split())}"
        return
    for document in documents:
        try:
            if found := _recognized(document):
                click.echo(f"{manifest}: {found}")
        except InvalidResourceError as error:
            yield f"{manifest}: {error}"


def _recognized(document: Any) -> str:
    """Return kind and name of a resource of ours, nothing for another; raise InvalidResourceError."""
    if document is None:
        return ""
    if not isinstance(document, dict):
        raise InvalidResourceError("a document is not a mapping")
    version = document.get("apiVersion")
    if not isinstance(version, str) or version.partition("/")[0] != GROUP:
        return ""
    if version != f"{GROUP}/{VERSION}":
        raise InvalidResourceError(f"apiVersion is {version}; known is {GROUP}/{VERSION}")
    kind = Section(document).text("kind")
    if kind not in _PARSERS:
        raise InvalidResourceError(f"there is no kind {kind}; known are {', '.join(_PARSERS)}")
    metadata = Section(document.get("metadata"), "metadata")
    name = metadata.text("name")
    try:
        if unknown := [field for field in document if field not in _FIELDS]:
            raise InvalidResourceError(f"there is no field {unknown[0]!r}")
        metadata.section("annotations")
        _PARSERS[kind](document, strict=True)
    except InvalidResourceError as error:
        raise InvalidResourceError(f"{kind} {name}: {error}") from error
    return f"{kind} {name}"
