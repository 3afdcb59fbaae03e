"""`python -m standin`: apply rendered resources of Strimzi to a Kafka that Strimzi does not run."""

import json
from collections import Counter
from pathlib import Path
from typing import TextIO

import click
import yaml

from standin.broker import Broker
from standin.connect import Connect
from standin.errors import StandinError
from standin.resources import Wanted, read
from standin.secret import ClusterSecrets, FolderSecrets, SecretStore, manifest, password_of


@click.command(
    epilog="""\b
Examples:
  python -m charts render kafka dev --namespace kafka > rendered.yaml
  python -m standin rendered.yaml --bootstrap 127.0.0.1:9092 --secrets-dir var/secrets
  python -m charts render kafka outbox --namespace kafka | python -m standin - --bootstrap kafka:9092 \\
      --properties admin.properties --kubectl kubectl --connect http://connect:8083

\b
Exit status: 0 applied; 1 something could not be applied, the message says what; 2 wrong use."""
)
@click.argument("rendered", type=click.File())
@click.option("--bootstrap", required=True, metavar="HOST:PORT", help="Bootstrap servers of the Kafka.")
@click.option(
    "--properties",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="librdkafka's properties of an administrator, a line `name=value` each.",
)
@click.option("--connect", "connect_url", metavar="URL", help="REST interface of the Connect for the connectors.")
@click.option("--secrets-dir", type=click.Path(file_okay=False, path_type=Path), help="Write Secrets into this folder.")
@click.option("--kubectl", metavar="COMMAND", help="Write Secrets into the cluster that this kubectl talks to.")
@click.option("--namespace", default="default", show_default=True, help="Namespace of resources that name none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    rendered: TextIO,
    bootstrap: str,
    properties: Path | None,
    connect_url: str | None,
    secrets_dir: Path | None,
    kubectl: str | None,
    namespace: str,
    as_json: bool,
) -> None:
    """
    Apply the KafkaTopics, KafkaUsers and KafkaConnectors of rendered manifests to a real Kafka and a real Connect.

    Users get a password, unless they have one, and exactly the rights of their resource; each password is written as
    the Secret that Strimzi would write. It may be repeated. Meant for tests: it applies once and watches nothing.
    """
    if (secrets_dir is None) == (kubectl is None):
        raise click.UsageError("say where Secrets go: either --secrets-dir DIR or --kubectl COMMAND")
    store: SecretStore = FolderSecrets(secrets_dir) if secrets_dir else ClusterSecrets(kubectl or "")
    try:
        wanted = read((document for document in yaml.safe_load_all(rendered) if document), namespace)
        done = apply(wanted, Broker({**_properties(properties), "bootstrap.servers": bootstrap}), store, connect_url)
    except (StandinError, yaml.YAMLError) as failed:
        raise click.ClickException(str(failed)) from failed
    for sentence in wanted.ignored:
        click.echo(sentence, err=True)
    if wanted.connectors and not connect_url:
        click.echo(f"{len(wanted.connectors)} connectors are not applied: give --connect URL.", err=True)
    if as_json:
        click.echo(json.dumps(done))
        return
    for kind, outcomes in done.items():
        counts = Counter(outcomes.values())
        click.echo(f"{kind}: " + (", ".join(f"{number} {word}" for word, number in sorted(counts.items())) or "none"))


def apply(wanted: Wanted, broker: Broker, store: SecretStore, connect_url: str | None) -> dict[str, dict[str, str]]:
    """Apply everything; return what was done, by kind and name."""
    topics = {topic.name: broker.apply_topic(topic) for topic in wanted.topics}
    users = {}
    for user in wanted.users:
        password = password_of(user, store)
        users[user.name] = broker.apply_user(user, password)
        # After Kafka knows it, so that a Secret that is there can be used.
        store.put(manifest(user, password))
    connectors = {}
    if connect_url:
        connect = Connect(connect_url)
        connectors = {connector.name: connect.apply(connector) for connector in wanted.connectors}
    return {"topics": topics, "users": users, "connectors": connectors}


def _properties(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    lines = [line.strip() for line in file.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise click.UsageError(f"{file} has a line without `=`: {wrong[0]}")
    return {name.strip(): value.strip() for name, _, value in pairs}


if __name__ == "__main__":
    main(prog_name="python -m standin")
