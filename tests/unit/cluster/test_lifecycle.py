"""A cluster that runs is left as it is, whatever its API server says at the moment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster import gotools, lifecycle, packages
from cluster.errors import ClusterError
from cluster.lifecycle import Cluster
from devstack.process import ProcessId


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose first process lives, and which has started; what it is made of is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(packages, "missing", list)
    monkeypatch.setattr(gotools, "ensure", lambda *_: tmp_path)
    monkeypatch.setattr(lifecycle, "image_of", lambda *_: tmp_path / "image.tar")
    monkeypatch.setattr(Cluster, "_require_place", lambda _: None)
    # Anything but leaving it alone must fail, and not touch this machine.
    monkeypatch.setattr(Cluster, "_remove", lambda _: pytest.fail("the cluster was removed"))
    state = tmp_path / "state"
    state.mkdir()
    with subprocess.Popen(["sleep", "600"]) as first:
        cluster = Cluster(state, print)
        (state / "cluster.json").write_text(json.dumps({"process": asdict(ProcessId.of(first.pid))}))
        cluster.layout.ready.touch()
        yield cluster
        first.kill()


def test_up_waits_for_an_api_server_that_is_busy(running: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr(Cluster, "is_ready", lambda _: next(answers))
    monkeypatch.setattr(Cluster, "enter", lambda _, node: [node])
    assert running.up() is False


def test_up_says_that_a_node_has_ended(running: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "is_ready", lambda _: True)
    for node in ("node1", "node2"):
        running.layout.node_pid(node).parent.mkdir(parents=True, exist_ok=True)
        running.layout.node_pid(node).write_text("4194304")
    with pytest.raises(ClusterError, match=r"node1 of the cluster in .* has ended"):
        running.up()


def test_up_removes_nothing_when_the_api_server_stays_silent(running: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_ANSWER_TIMEOUT", 0.0)
    monkeypatch.setattr(Cluster, "is_ready", lambda _: False)
    with pytest.raises(ClusterError, match=r"runs, but its API server did not answer.*python -m cluster down") as said:
        running.up()
    assert str(running.layout.logs) in str(said.value)
    assert running.first_process() is not None
