from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from images import network


def written(found: dict[str, Path]) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    parser.read(found["pip.conf"])
    return dict(parser["global"])


def test_the_environment_wins_over_files_whatever_their_order() -> None:
    lines = [
        ":env:.timeout='20'",
        "global.index-url='https://one.example/simple'",
        "global.timeout='9'",
        "install.index-url='https://two.example/simple'",
        "freeze.timeout='1'",
        "global.extra-index-url='\\nhttps://three.example\\nhttps://four.example'",
    ]

    assert network.pip_settings("\n".join(lines)) == {
        "timeout": "20",
        "index-url": "https://two.example/simple",
        "extra-index-url": "https://three.example\nhttps://four.example",
    }


def test_this_machines_pip_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TIMEOUT", "17")

    assert network.pip_settings(network.listed())["timeout"] == "17"


def test_an_index_is_used_and_folders_of_this_machine_are_not_carried_in(tmp_path: Path) -> None:
    settings = {"index-url": "https://index.example/simple", "find-links": "/wheels", "cache-dir": "/cache"}

    found = network.secrets(tmp_path, settings, {})

    assert written(found) == {"index-url": "https://index.example/simple"}
    assert set(found) == {"pip.conf"}


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_of_the_environment_are_trusted(tmp_path: Path, variable: str) -> None:
    (tmp_path / "own.pem").write_text("authorities")

    found = network.secrets(tmp_path, {}, {variable: str(tmp_path / "own.pem")})

    assert found["authorities.crt"].read_text() == "authorities"
    assert written(found) == {"cert": "/run/secrets/authorities.crt"}


def test_pips_own_authorities_go_first(tmp_path: Path) -> None:
    (tmp_path / "pip.pem").write_text("pip")
    (tmp_path / "all.pem").write_text("all")

    found = network.secrets(tmp_path, {"cert": str(tmp_path / "pip.pem")}, {"SSL_CERT_FILE": str(tmp_path / "all.pem")})

    assert found["authorities.crt"].read_text() == "pip"


def test_authorities_that_are_not_there_are_not_named(tmp_path: Path) -> None:
    found = network.secrets(tmp_path, {}, {"SSL_CERT_FILE": str(tmp_path / "nowhere")})

    assert written(found) == {}
    assert set(found) == {"pip.conf"}
