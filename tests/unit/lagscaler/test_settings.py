"""The operator's settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lagscaler.settings import (
    BridgeSettings,
    ClusterSettings,
    SettingsError,
    addresses,
    parse_settings,
    read_settings,
)

FULL = """
clusters:
  main:
    bootstrapServers: kafka-0:9093,kafka-1:9093
    securityProtocol: SASL_SSL
    saslMechanism: SCRAM-SHA-512
    username: lagscaler
    passwordFile: /etc/lagscaler/clusters/main/password
    caFile: /etc/lagscaler/clusters/main/ca.crt
    namespaces: [shop, fraud]
  side:
    bootstrapServers: other:9092
bridges:
  main:
    url: https://shop.example/bridge/api/
    tokenFile: /etc/lagscaler/bridges/main/token
    pollSeconds: 2
    namespaces: ["*"]
namespaces: [shop, fraud]
scaledObjects: true
"""


def test_everything_that_can_be_set() -> None:
    found = parse_settings(FULL)
    assert found.clusters["main"] == ClusterSettings(
        name="main",
        bootstrap_servers="kafka-0:9093,kafka-1:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        username="lagscaler",
        password_file=Path("/etc/lagscaler/clusters/main/password"),
        ca_file=Path("/etc/lagscaler/clusters/main/ca.crt"),
        namespaces=("shop", "fraud"),
    )
    assert found.clusters["side"].security_protocol == "PLAINTEXT"
    assert found.bridges == {
        "main": BridgeSettings(
            "main", "https://shop.example/bridge/api", Path("/etc/lagscaler/bridges/main/token"), None, 2.0, ("*",)
        )
    }
    assert found.namespaces == ("shop", "fraud")
    assert found.scaled_objects


def test_nothing_set_means_the_whole_cluster_and_no_kafka() -> None:
    found = parse_settings("")
    assert (dict(found.clusters), dict(found.bridges), found.namespaces, found.scaled_objects) == ({}, {}, (), False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "this is not YAML"),
        ("- a", "must be a mapping"),
        ("cluster: {}", "there is no setting 'cluster'"),
        ("clusters: {main: {}}", "clusters.main: bootstrapServers is missing"),
        ("clusters: {main: {bootstrapServers: 9}}", "bootstrapServers must be a text, not 9"),
        ("clusters: {main: {bootstrapServers: a, port: 1}}", "clusters.main: there is no setting 'port'"),
        ("clusters: {main: {bootstrapServers: a, securityProtocol: TLS}}", "must be one of PLAINTEXT, SSL"),
        ("clusters: {main: {bootstrapServers: a, securityProtocol: SASL_SSL}}", "SASL_SSL needs saslMechanism"),
        (
            "clusters: {main: {bootstrapServers: a, securityProtocol: SASL_SSL, saslMechanism: PLAIN, username: u}}",
            "SASL_SSL needs passwordFile",
        ),
        ("clusters: {main: {bootstrapServers: a, saslMechanism: PLAIN}}", "saslMechanism goes with"),
        (
            "clusters: {main: {bootstrapServers: a, securityProtocol: SSL, certificateFile: /c}}",
            "certificateFile and keyFile go together",
        ),
        (
            "clusters: {main: {bootstrapServers: 'kafka:port'}}",
            "clusters.main: 'kafka:port' in bootstrapServers is not host:port, such as kafka:9092",
        ),
        (
            "clusters: {main: {bootstrapServers: a, username: u}}",
            "clusters.main: username goes with the securityProtocol SASL_SSL or SASL_PLAINTEXT, not PLAINTEXT",
        ),
        ("clusters: {main: {bootstrapServers: a, securityProtocol: SSL, passwordFile: /p}}", "passwordFile goes with"),
        (
            "clusters: {main: {bootstrapServers: a, caFile: /c}}",
            "clusters.main: caFile goes with the securityProtocol SSL or SASL_SSL, not PLAINTEXT",
        ),
        ("clusters: {main: {bootstrapServers: a, certificateFile: /c, keyFile: /k}}", "certificateFile goes with"),
        ("clusters: {main: {bootstrapServers: a, keyFile: /k}}", "keyFile goes with"),
        ("bridges: {}\nbridges: {}", "'bridges' stands there twice"),
        ("clusters: {main: {bootstrapServers: a, 'bootstrapServers': b}}", "'bootstrapServers' stands there twice"),
        ("a: 2026-13-41", "this is not YAML"),
        ("[" * 100_000, "this is not YAML"),
        ("bridges: {main: {url: shop}}", "does not begin with http"),
        ("bridges: {main: {url: 'http://shop'}}", "tokenFile is missing"),
        ("bridges: {main: {url: 'http://shop', tokenFile: /t, pollSeconds: 0}}", "a number from 1 to 3600"),
        ("bridges: {main: {url: 'http://shop', tokenFile: /t, pollSeconds: true}}", "a number from 1 to 3600"),
        ("namespaces: shop", "namespaces must be a list of names"),
        ("clusters: {main: {bootstrapServers: a, namespaces: shop}}", "namespaces must be a list of names"),
        ("bridges: {main: {url: 'http://shop', tokenFile: /t, namespaces: [1]}}", "namespaces must be a list of names"),
        ("scaledObjects: 1", "scaledObjects must be true or false"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match="settings") as refused:
        parse_settings(text)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        ("kafka", [("kafka", 9092)]),
        ("a:1, b_2.c:65535", [("a", 1), ("b_2.c", 65535)]),
        ("[::1]:9094", [("::1", 9094)]),
        ("[fe80::1]", [("fe80::1", 9092)]),
    ],
)
def test_bootstrap_servers(servers: str, found: list[tuple[str, int]]) -> None:
    assert addresses(servers, "here") == found


@pytest.mark.parametrize(
    "servers",
    ["", "kafka:", ":9092", "kafka:port", "a:1,,b:2", "kafka:²", "kafka:0", "kafka:65536", "::1", "[::1", "[]:1",
     "SASL_SSL://kafka:9092", "ka fka:9092", "kafka:9092/topic"],
)  # fmt: skip
def test_bootstrap_servers_that_are_none(servers: str) -> None:
    with pytest.raises(SettingsError, match=r"here: .* in bootstrapServers is not host:port"):
        addresses(servers, "here")


def test_a_mapping_may_be_merged_into_another_and_overridden() -> None:
    text = """
clusters:
  main: &main {bootstrapServers: 'a:1', securityProtocol: SSL, caFile: /ca}
  side: {<<: *main, bootstrapServers: 'b:2'}
"""
    found = parse_settings(text).clusters
    assert (found["side"].bootstrap_servers, found["side"].ca_file) == ("b:2", Path("/ca"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.yaml cannot be read: No such file"):
        read_settings(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="it is not UTF-8"):
        read_settings(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("namespaces", "admitted"),
    [("[]", set()), ("[shop]", {"shop"}), ("[shop, fraud]", {"shop", "fraud"}), ("['*']", {"shop", "fraud", "other"})],
)
def test_which_namespaces_may_use_a_cluster_or_a_bridge(namespaces: str, admitted: set[str]) -> None:
    found = parse_settings(
        f"clusters: {{main: {{bootstrapServers: a, namespaces: {namespaces}}}}}\n"
        f"bridges: {{main: {{url: 'http://shop', tokenFile: /t, namespaces: {namespaces}}}}}\n"
    )
    for one in (found.clusters["main"], found.bridges["main"]):
        assert {name for name in ("shop", "fraud", "other") if one.admits(name)} == admitted


def test_nobody_may_use_what_says_of_nobody() -> None:
    found = parse_settings("clusters: {main: {bootstrapServers: a}}").clusters["main"]
    assert not found.admits("shop")
