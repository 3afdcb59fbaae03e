"""What the pages about the operator tell people to type is taken by a real API server, in the order of the pages."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.charts.test_docs import HOWTO, flags, lines
from tests.cluster.kube import ROOT
from tests.cluster.operating import Town

EXAMPLES = sorted((ROOT / "k8s" / "operator").glob("*.yaml"))


def changes(page: Path) -> list[list[str]]:
    """Return the commands of a page that change a resource of ours, without the namespace."""
    found = []
    for line in lines(page):
        match line.words:
            case ["kubectl", "patch" | "scale", what, *rest] if what.startswith(("kafkaconsumer", "cutover")):
                at = line.words.index("--namespace")
                assert "namespace" in flags(rest)
                found.append([*line.words[1:at], *line.words[at + 2 :]])
    return found


def example(path: Path, namespace: str) -> str:
    """Return an example for another namespace."""
    return path.read_text().replace("namespace: shop", f"namespace: {namespace}")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_taken_without_a_warning(path: Path, town: Town) -> None:
    said = town.kube.run(
        "create", "--dry-run=server", "--validate=strict", "--filename", "-",
        stdin=example(path, town.namespace), check=False,
    )  # fmt: skip

    expected = sum(1 for document in yaml.safe_load_all(path.read_text()) if document)
    assert said.count("created (server dry run)") == expected, said
    assert "Warning" not in said


def test_consumers_are_changed_as_the_page_says(town: Town) -> None:
    town.kube.run("create", "--filename", "-", stdin=example(ROOT / "k8s/operator/kafkaconsumer.yaml", town.namespace))
    commands = changes(HOWTO / "scale-consumers.md")

    assert len(commands) > 5
    for command in commands:
        said = town.run(*command, check=False)
        assert "patched" in said or "scaled" in said, (command, said)
    said = town.run("scale", "kafkaconsumer/analytics", "--replicas=5", check=False)
    assert "Manual" in said, "outside of Manual it is refused, with the remedy"


def test_services_are_moved_as_the_page_says(town: Town) -> None:
    item = example(ROOT / "k8s/operator/cutover.yaml", town.namespace).replace("payments", "orders")
    town.kube.run("create", "--filename", "-", stdin=item)
    commands = changes(HOWTO / "drive-the-migration-with-kubectl.md")

    assert len(commands) > 8
    for command in commands:
        said = town.run(*command, check=False)
        assert "patched" in said, (command, said)
        assert "no change" not in said, command
