"""What ends while others wait for it is said, with the end of its log."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cluster.api import Api, ApiError
from cluster.certificates import Authority, write_service_account_key
from cluster.errors import ClusterError, ComponentEnded
from cluster.supervisor import Supervisor, last_error, wait_until


def test_a_program_that_ends_early_is_named_with_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    supervisor.start("etcd", ["sh", "-c", "echo 'the disk is full' >&2; exit 7"])
    with pytest.raises(ComponentEnded, match=r"(?s)etcd ended with status 7\..*etcd\.log:\n    the disk is full"):
        supervisor.wait_until(lambda: False, "Etcd was not ready", 60.0)


def test_what_takes_too_long_is_said() -> None:
    with pytest.raises(ClusterError, match=r"The nodes were not Ready within 0 s\."):
        wait_until(lambda: False, "The nodes were not Ready", 0)


def test_what_is_there_is_not_waited_for() -> None:
    wait_until(lambda: True, "Nothing", 0)


def test_a_program_that_keeps_ending_is_given_up_before_all_runs(tmp_path: Path) -> None:
    """In a process of its own, because it reaps every child of the process that it is in."""
    said = "echo starting; echo 'E1121 10:00:00 server.go:1] the port is taken' >&2; echo bye; exit 3"
    keeping = (
        "import sys, pathlib; from cluster.supervisor import Supervisor; from cluster.errors import ComponentEnded\n"
        "supervisor = Supervisor(pathlib.Path(sys.argv[1]))\n"
        "supervisor.start('kubelet-node1', ['sh', '-c', sys.argv[2]])\n"
        "try: supervisor.keep(lambda: False)\n"
        "except ComponentEnded as ended: sys.exit(str(ended))\n"
    )
    command = [sys.executable, "-c", keeping, str(tmp_path), said]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    log = tmp_path / "kubelet-node1.log"
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"kubelet-node1 keeps ending, with status 3. Its log {log} says: E1121 10:00:00 server.go:1] the port is taken"
    )
    assert log.read_text().count("bye") == 3


def test_a_program_that_cannot_run_twice_is_named_and_left(tmp_path: Path) -> None:
    """In a process of its own, which ends when it is told that the other program ended a second time."""
    keeping = (
        "import sys, pathlib; from cluster.supervisor import Supervisor; from cluster.errors import ComponentEnded\n"
        "supervisor = Supervisor(pathlib.Path(sys.argv[1]))\n"
        "supervisor.start('node2', ['sh', '-c', 'echo once'], once=True)\n"
        "supervisor.start('etcd', ['sh', '-c', 'sleep 0.5; exit 3'])\n"
        "try: supervisor.keep(lambda: False)\n"
        "except ComponentEnded as ended: sys.exit(str(ended))\n"
    )
    command = [sys.executable, "-c", keeping, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.startswith("etcd keeps ending")
    assert (tmp_path / "node2.log").read_text() == "once\n"
    assert "node2 ended with status 0; it cannot be started again: `down` and `up` the cluster\n" in done.stdout


def test_the_last_line_stands_for_the_error_where_none_looks_like_one(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    log.write_text("one\ntwo\n\n")
    assert last_error(log) == "two"
    log.write_text("")
    assert last_error(log) == "nothing"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "pki")
    made.create()
    return made


def test_certificates_are_the_authoritys_and_no_authority_themselves(authority: Authority) -> None:
    authority.issue("server", "/CN=server", ["localhost"], [IPv4Address("10.96.0.1")])
    command = ["openssl", "verify", "-purpose", "sslserver", "-verify_ip", "10.96.0.1", "-CAfile", "ca.crt"]
    subprocess.run([*command, "server.crt"], cwd=authority.folder, check=True, capture_output=True)
    text = ["openssl", "x509", "-noout", "-text", "-in", "server.crt"]
    shown = subprocess.run(text, cwd=authority.folder, check=True, capture_output=True, text=True).stdout
    assert "CA:FALSE" in shown
    assert "DNS:localhost, IP Address:10.96.0.1" in shown


def test_a_kubeconfig_is_its_owners_alone_and_can_be_used(authority: Authority, tmp_path: Path) -> None:
    authority.issue("admin", "/O=system:masters/CN=admin")
    path = tmp_path / "kubeconfig"
    authority.write_kubeconfig(path, "admin", "https://127.0.0.1:1", "here")
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["current-context"] == "here"
    # Nobody listens there: that is what it says, not that the key is wrong.
    assert Api(path).is_ready() is False


def test_a_watch_that_is_cut_within_a_line_broke(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.issue("admin", "/CN=admin")
    authority.write_kubeconfig(tmp_path / "kubeconfig", "admin", "https://127.0.0.1:1", "here")
    api = Api(tmp_path / "kubeconfig")
    lines = [b'{"type": "ADDED", "object": {"kind": "Pod"}}\n', b'{"type": "ADDED", "obj']
    monkeypatch.setattr(api, "_send", lambda *_: iter(lines))
    found = api.watch("/api/v1/pods", "1")
    assert next(found) == ("ADDED", {"kind": "Pod"})
    with pytest.raises(ApiError, match=r"^The watch of /api/v1/pods broke: "):
        next(found)


def test_a_key_of_somebody_else_is_noticed(authority: Authority, tmp_path: Path) -> None:
    authority.issue("admin", "/CN=admin")
    authority.issue("other", "/CN=other")
    (authority.folder / "admin.key").write_bytes((authority.folder / "other.key").read_bytes())
    authority.write_kubeconfig(tmp_path / "kubeconfig", "admin", "https://127.0.0.1:1", "here")
    with pytest.raises(ssl.SSLError):
        Api(tmp_path / "kubeconfig")


def test_tokens_are_signed_with_a_key_of_their_own(authority: Authority) -> None:
    write_service_account_key(authority.folder)
    assert b"PUBLIC KEY" in (authority.folder / "sa.pub").read_bytes()
