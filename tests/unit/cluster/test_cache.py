"""What is made once is complete or absent, and made again when what it is made of changes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cluster import cache, gotools
from cluster.errors import ClusterError, MissingPackage


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "taskbridge"


def test_it_is_made_once() -> None:
    made = []

    def make(target: Path) -> None:
        made.append(target)
        (target / "file").write_text("content")

    first, second = (cache.made("thing", "key", make) for _ in range(2))
    assert first == second
    assert (first / "file").read_text() == "content"
    assert len(made) == 1


def test_what_fails_leaves_nothing(folder: Path) -> None:
    def fail(target: Path) -> None:
        (target / "half").write_text("")
        raise ClusterError("no")

    with pytest.raises(ClusterError):
        cache.made("thing", "key", fail)
    assert list(folder.iterdir()) == []


def test_two_at_once_make_it_once() -> None:
    made = []
    inside = threading.Event()

    def make(target: Path) -> None:
        made.append(target)
        inside.set()

    threads = [threading.Thread(target=cache.made, args=("thing", "key", make)) for _ in range(2)]
    with cache.locked("thing"):
        for thread in threads:
            thread.start()
        assert not inside.is_set()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_one_at_a_time_also_while_the_locks_file_comes_and_goes(folder: Path) -> None:
    inside = threading.Lock()
    collisions = []

    def enter() -> None:
        for _ in range(50):
            with cache.locked("thing"):
                if not inside.acquire(blocking=False):
                    collisions.append(1)
                    continue
                inside.release()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collisions == []
    assert list(folder.iterdir()) == []


def test_a_digest_depends_on_where_parts_begin() -> None:
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])
    assert cache.digest(["ab"]) == cache.digest([b"ab"])


def test_a_tools_key_changes_with_its_files_and_its_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gotools, "_SOURCES", tmp_path)
    (tmp_path / "demo").mkdir()
    module = tmp_path / "demo" / "go.mod"
    module.write_text("module demo\n")
    tool = gotools.Tool("demo", (".",))
    first = tool.key
    assert tool.key == first
    assert gotools.Tool("demo", (".",), ("main.version=2",)).key != first
    module.write_text("module demo\n\nrequire other v1.0.0\n")
    assert tool.key != first


def test_every_tool_is_pinned() -> None:
    for tool in gotools.TOOLS.values():
        assert "latest" not in (tool.source / "go.mod").read_text()
        if tool.packages != (".",) or "require" in (tool.source / "go.mod").read_text():
            assert (tool.source / "go.sum").exists(), tool.name


def test_versions_that_the_linker_sets_are_those_of_the_modules() -> None:
    kubernetes, helm = gotools.TOOLS["kubernetes"], gotools.TOOLS["helm"]
    version = next(one.partition("=v")[2] for one in kubernetes.variables if ".gitVersion=" in one)
    assert f"k8s.io/kubernetes v{version}\n" in (kubernetes.source / "go.mod").read_text()
    version = next(one.partition("=v")[2] for one in helm.variables if "version.version=" in one)
    assert f"helm.sh/helm/v3 v{version}\n" in (helm.source / "go.mod").read_text()


def test_a_build_without_go_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    with pytest.raises(MissingPackage, match=r"There is no `go` on the PATH.*install Go 1\.26"):
        gotools.program("helm", said.append)
    assert said == ["Building helm with Go (only this once; Kubernetes takes some minutes) …"]


def test_an_unknown_program_is_answered_with_those_there_are() -> None:
    with pytest.raises(ClusterError, match="There is no program helmet: it is one of coredns, helm, "):
        gotools.program("helmet", print)


def test_what_go_says_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'no such host' >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ClusterError, match=r"(?s)could not build helm.*check the network, or GOPROXY.*no such host"):
        gotools.program("helm", print)
