"""The command, as far as no Kafka is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from standin.__main__ import main

SECRETS = ["--secrets-dir", "secrets"]
BOOTSTRAP = ["--bootstrap", "127.0.0.1:1"]


@pytest.mark.parametrize("where", [[], [*SECRETS, "--kubectl", "kubectl"]])
def test_secrets_go_to_one_place(where: list[str]) -> None:
    outcome = CliRunner().invoke(main, ["-", *BOOTSTRAP, *where], input="")

    assert outcome.exit_code == 2
    assert "either --secrets-dir DIR or --kubectl COMMAND" in outcome.output


@pytest.mark.parametrize(
    ("rendered", "message"),
    [
        ("a: [", "while parsing a flow"),
        ("{apiVersion: kafka.strimzi.io/v1, kind: KafkaTopic, metadata: {name: t}}", "has no label strimzi.io/cluster"),
    ],
)
def test_what_cannot_be_applied_is_one_sentence(rendered: str, message: str) -> None:
    outcome = CliRunner().invoke(main, ["-", *BOOTSTRAP, *SECRETS], input=rendered)

    assert outcome.exit_code == 1
    assert message in outcome.output
    assert "Traceback" not in outcome.output


def test_properties_are_lines_with_an_equals_sign(tmp_path: Path) -> None:
    properties = tmp_path / "admin.properties"
    properties.write_text("# who\n\nsasl.username = admin\nnonsense\n")

    outcome = CliRunner().invoke(main, ["-", *BOOTSTRAP, *SECRETS, "--properties", str(properties)], input="")

    assert outcome.exit_code == 2
    assert "a line without `=`: nonsense" in outcome.output


def test_nothing_to_do_is_done() -> None:
    outcome = CliRunner().invoke(main, ["-", *BOOTSTRAP, *SECRETS], input="kind: ConfigMap\n")

    assert outcome.exit_code == 0
    assert outcome.output.splitlines() == ["topics: none", "users: none", "connectors: none"]
