"""The Makefile on a machine that lacks something, and `.ci/run` when a step fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.documents import ROOT


def run(command: list[str], folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as if it were not itself run by make."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with as much of the project as make looks at, and nothing set up."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "tools/devstack/pom.xml", ".ci/run"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_make_alone_lists_the_targets() -> None:
    done = run(["make", "--no-print-directory"])
    assert done.returncode == 0
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert {"demo", "test", "test-unit", "check", "up", "down"} <= listed


def test_a_python_that_is_too_old_is_said(checkout: Path) -> None:
    old = program(checkout / "old-python", "exit 1")
    done = run(["make", "setup", f"PYTHON={old}"], checkout)
    assert done.returncode == 2
    assert f"There is no Python 3.11 or later among: {old}. Install one" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_said(checkout: Path) -> None:
    bare = program(
        checkout / "bare-python", 'case "$1" in -c) exit 0;; --version) echo Python 3.11.2;; *) exit 1;; esac'
    )
    done = run(["make", "setup", f"PYTHON={bare}"], checkout)
    assert done.returncode == 2
    assert f"{bare} cannot make a virtual environment: install its venv module" in done.stderr


def installer(folder: Path) -> Path:
    """A Python whose environments note what they are told, and install nothing."""
    inner = program(folder / "inner", f'echo "$@" >> "{folder}/told"')
    making = f'mkdir -p .venv/bin && cp "{inner}" .venv/bin/python'
    return program(folder / "python", f'case "$1" in -c) ;; --version) echo Python 3.11.2;; -m) {making};; esac')


def test_setup_is_done_once_and_again_when_what_it_rests_on_changes(checkout: Path) -> None:
    python = installer(checkout)
    command = ["make", "setup", f"PYTHON={python}"]
    assert run(command, checkout).returncode == 0
    told = (checkout / "told").read_text().splitlines()
    assert told == ["-m pip install --quiet -c constraints.txt -e .[shop,operator,dev]", "-m devstack fetch"]
    assert run(command, checkout).returncode == 0
    assert (checkout / "told").read_text().splitlines() == told
    with (checkout / "constraints.txt").open("a") as file:
        file.write("# renewed\n")
    assert run(command, checkout).returncode == 0
    assert (checkout / "told").read_text().splitlines() == told * 2


def test_no_jars_are_fetched_when_the_broker_is_elsewhere(checkout: Path) -> None:
    command = ["make", "setup", f"PYTHON={installer(checkout)}"]
    assert run(command, checkout, TASKBRIDGE_TEST_KAFKA_BOOTSTRAP_SERVERS="broker:9092").returncode == 0
    assert "devstack" not in (checkout / "told").read_text()


@pytest.mark.parametrize("status", [0, 1])
def test_clean_stops_what_runs_before_it_removes_its_folder(checkout: Path, status: int) -> None:
    program(checkout / ".venv" / "bin" / "python", f'ls -d var >> told; echo "$@" >> told; exit {status}')
    (checkout / "var").mkdir()
    assert run(["make", "clean"], checkout).returncode == 0
    assert (checkout / "told").read_text().splitlines() == ["var", "-m demo down", "var", "-m devstack down"]
    assert not (checkout / "var").exists()
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("user", "go", "cluster", "without"),
    [
        (
            0,
            True,
            ["made charts", "made cluster-packages", "ran cluster", "ran images", "made test-cluster"],
            "",
        ),
        (1000, True, ["made charts"], "WITHOUT make test-cluster"),
        (0, False, [], "WITHOUT make charts and make test-cluster"),
    ],
)
def test_ci_runs_every_step_and_repeats_what_pytest_said(
    checkout: Path, user: int, go: bool, cluster: list[str], without: str
) -> None:
    program(checkout / "bin" / "make", 'case "$1" in test) echo "=== 7 passed in 1.00s ===";; *) echo "made $1";; esac')
    program(checkout / ".venv" / "bin" / "python", 'echo "ran $2"')
    program(checkout / "bin" / "id", f"echo {user}")
    program(checkout / "bin" / "apt-get", "exit 1")
    if go:
        program(checkout / "bin" / "go", "exit 1")
    # Nothing of this machine but what the script itself calls.
    for name in ("bash", "cat", "dirname", "env", "grep", "mktemp", "rm", "sh", "tail", "tee", "timeout"):
        (checkout / "bin" / name).symlink_to(shutil.which(name) or name)
    done = run([".ci/run"], checkout, PATH=str(checkout / "bin"))
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith(("made", "ran"))]
    assert steps == [
        "made clean",
        "made setup",
        "made check",
        *cluster,
        "made demo",
        "made test-soak",
        "ran benchmarks.worker",
        "ran benchmarks.dispatch",
        "ran benchmarks.autoscaler",
    ]
    end = done.stdout.splitlines()[-1]
    assert end.endswith("the tests said: === 7 passed in 1.00s ===")
    assert without in end
    assert ("WITHOUT" in end) == bool(without)


def test_ci_ends_at_the_step_that_fails(checkout: Path) -> None:
    program(checkout / "bin" / "make", '[ "$1" != test ] || exit 5; echo "made $1"')
    done = run([".ci/run"], checkout, PATH=f"{checkout / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 5
    assert "made demo" not in done.stdout
    assert "FAILED with status 5" in done.stdout
    assert "make test" in done.stdout.splitlines()[-1]
