"""What the pages about the operator tell people to type is taken by a real API server, in the order of the pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from tests.charts.test_docs import HOWTO, flags, lines
from tests.cluster.kube import ROOT, Kube, tool
from tests.cluster.operating import definitions

EXAMPLES = sorted((ROOT / "k8s" / "operator").glob("*.yaml"))


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Kube, str]]:
    """A namespace, in which our kinds are known."""
    # No image of ours is needed, and the other way to a cluster builds them all.
    given = os.environ.get("TASKBRIDGE_TEST_KUBECONFIG")
    kubeconfig = Path(given) if given else request.getfixturevalue("kubeconfig")
    kube = Kube(kubeconfig, *(Path(tool("cluster", "tool", name)) for name in ("kubectl", "helm")))
    kube.apply(*definitions())
    kube.run("wait", "--for=condition=Established", *(f"crd/{one['metadata']['name']}" for one in definitions()))
    namespace = f"pages-{uuid4().hex[:8]}"
    kube.run("create", "namespace", namespace)
    yield kube, namespace
    kube.run("delete", "namespace", namespace, "--wait=false")


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
def test_an_example_is_taken_without_a_warning(path: Path, place: tuple[Kube, str]) -> None:
    kube, namespace = place
    said = kube.run(
        "create", "--dry-run=server", "--validate=strict", "--filename", "-",
        stdin=example(path, namespace), check=False,
    )  # fmt: skip

    expected = sum(1 for document in yaml.safe_load_all(path.read_text()) if document)
    assert said.count("created (server dry run)") == expected, said
    assert "Warning" not in said


def test_consumers_are_changed_as_the_page_says(place: tuple[Kube, str]) -> None:
    kube, namespace = place
    kube.run("create", "--filename", "-", stdin=example(ROOT / "k8s/operator/kafkaconsumer.yaml", namespace))
    commands = changes(HOWTO / "scale-consumers.md")

    assert len(commands) > 5
    for command in commands:
        said = kube.run(*command, "--namespace", namespace, check=False)
        assert "patched" in said or "scaled" in said, (command, said)
    said = kube.run("scale", "kafkaconsumer/analytics", "--replicas=5", "--namespace", namespace, check=False)
    assert "Manual" in said, "outside of Manual it is refused, with the remedy"


def test_services_are_moved_as_the_page_says(place: tuple[Kube, str]) -> None:
    kube, namespace = place
    item = example(ROOT / "k8s/operator/cutover.yaml", namespace).replace("payments", "orders")
    kube.run("create", "--filename", "-", stdin=item)
    commands = changes(HOWTO / "drive-the-migration-with-kubectl.md")

    assert len(commands) > 8
    for command in commands:
        said = kube.run(*command, "--namespace", namespace, check=False)
        assert "patched" in said, (command, said)
        assert "no change" not in said, command
