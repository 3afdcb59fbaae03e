"""The operator's settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lagscaler.settings import BridgeSettings, ClusterSettings, SettingsError, parse_settings, read_settings

FULL = """
clusters:
  main:
    bootstrapServers: kafka-0:9093,kafka-1:9093
    securityProtocol: SASL_SSL
    saslMechanism: SCRAM-SHA-512
    username: lagscaler
    passwordFile: /etc/lagscaler/clusters/main/password
    caFile: /etc/lagscaler/clusters/main/ca.crt
  side:
    bootstrapServers: other:9092
bridges:
  main:
    url: https://shop.example/bridge/api/
    tokenFile: /etc/lagscaler/bridges/main/token
    pollSeconds: 2
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
    )
    assert found.clusters["side"].security_protocol == "PLAINTEXT"
    assert found.bridges == {
        "main": BridgeSettings(
            "main", "https://shop.example/bridge/api", Path("/etc/lagscaler/bridges/main/token"), None, 2.0
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
        ("clusters: {main: {bootstrapServers: a, certificateFile: /c}}", "certificateFile and keyFile go together"),
        ("bridges: {main: {url: shop}}", "does not begin with http"),
        ("bridges: {main: {url: 'http://shop'}}", "tokenFile is missing"),
        ("bridges: {main: {url: 'http://shop', tokenFile: /t, pollSeconds: 0}}", "a number from 1 to 3600"),
        ("bridges: {main: {url: 'http://shop', tokenFile: /t, pollSeconds: true}}", "a number from 1 to 3600"),
        ("namespaces: shop", "namespaces must be a list of names"),
        ("scaledObjects: 1", "scaledObjects must be true or false"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match="settings") as refused:
        parse_settings(text)
    assert words in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.yaml cannot be read: No such file"):
        read_settings(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="it is not UTF-8"):
        read_settings(tmp_path / "config.yaml")
