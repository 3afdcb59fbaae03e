"""What a user types wrong, or lacks, is answered with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cluster import lifecycle, packages
from cluster.cli import main
from cluster.lifecycle import Cluster


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, with all packages there: what is wrong comes after that."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(packages, "missing", list)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_status_of_nothing(tmp_path: Path) -> None:
    done = run("status", "--state-dir", tmp_path / "none")
    assert done.exit_code == 3
    assert "no cluster runs here: python -m cluster up" in done.output


def test_status_as_json(tmp_path: Path) -> None:
    done = run("status", "--json", "--state-dir", tmp_path / "none")
    assert done.exit_code == 3
    found = json.loads(done.output)
    assert (found["running"], found["ready"], found["nodes"]) == (False, False, {})


def test_every_checkout_has_a_cluster_of_its_own(cache_folder: Path) -> None:
    found = json.loads(run("status", "--json").output)
    assert Path(found["state_dir"]).parent == cache_folder / "taskbridge"


@pytest.mark.parametrize(
    "words", [("kubectl", "--state-dir", "STATE", "get", "pods"), ("shell", "--state-dir", "STATE"), ("load", "FILE")]
)
def test_commands_on_a_cluster_that_does_not_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("")
    given = [str(tmp_path / {"STATE": "none", "FILE": "file"}[word]) if word.isupper() else word for word in words]
    done = run(*given)
    assert done.exit_code == 1
    assert done.output.startswith("Error: No cluster runs in ")
    assert "start it with `python -m cluster up`" in done.output


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    done = run("load", tmp_path / "none.tar")
    assert done.exit_code == 2
    assert "does not exist" in done.output


def test_up_without_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = run("up", "--state-dir", tmp_path / "state")
    assert done.exit_code == 1
    assert done.output == "Error: Only root can make namespaces and networks: run it with sudo.\n"


def test_up_without_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(packages, "find", lambda program: None if program in {"ctr", "nft"} else program)
    done = run("up", "--state-dir", tmp_path / "state")
    assert done.exit_code == 1
    assert "not installed: apt-get install --no-install-recommends containerd nftables" in done.output
    assert run("packages", "--missing").output.split() == ["containerd", "nftables"]


def test_packages_are_listed() -> None:
    assert run("packages").output.split() == list(packages.PACKAGES)


@pytest.mark.usefixtures("as_root")
def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for command in ("up", "down"):
        done = run(command, "--state-dir", tmp_path)
        assert done.exit_code == 1, done.output
    assert "is not the folder of a cluster: nothing was removed" in done.output
    assert precious.read_text() == "mine"


@pytest.mark.usefixtures("as_root")
def test_a_folder_that_nodes_hide_is_refused() -> None:
    done = run("up", "--state-dir", "/run/cluster")
    assert done.exit_code == 1
    assert "/run/cluster lies in a folder that the nodes cover with their own" in done.output
    assert not Path("/run/cluster").exists()


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("amount", ["much", "8", "0g", "8g,exec"])
def test_an_amount_of_storage_that_is_none(tmp_path: Path, amount: str) -> None:
    done = run("up", "--state-dir", tmp_path / "state", "--storage", amount)
    assert done.exit_code == 1
    assert f"{amount!r} is no amount of storage" in done.output


@pytest.mark.usefixtures("as_root")
def test_a_record_of_something_else_is_not_acted_upon(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"process": 1}')
    done = run("down", "--state-dir", tmp_path)
    assert done.exit_code == 1
    assert "was not written by this tool" in done.output
    assert (tmp_path / "cluster.json").exists()


@pytest.mark.usefixtures("as_root")
def test_down_of_nothing(tmp_path: Path) -> None:
    done = run("down", "--state-dir", tmp_path / "none")
    assert (done.exit_code, done.output) == (0, "There was no cluster.\n")
    assert not (tmp_path / "none").exists()


def test_a_process_that_is_not_the_recorded_one_is_not_the_clusters(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps({"process": {"pid": 1, "started": 5.0}}))
    assert Cluster(tmp_path, print).first_process() is None


def test_an_unknown_tool_is_refused() -> None:
    done = run("tools", "helmet")
    assert done.exit_code == 2
    assert "'helmet' is not one of 'kubernetes', 'helm'" in done.output


def test_the_images_that_nodes_start_with_have_a_name_that_the_manifests_use() -> None:
    manifests = Path(lifecycle.__file__).parent / "manifests"
    assert "image: taskbridge/coredns:1\n" in (manifests / "coredns.yaml").read_text()
    assert lifecycle.IMAGES["coredns"] == "docker.io/taskbridge/coredns:1"
