"""The commands of `python -m lagscaler`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lagscaler.cli import main
from lagscaler.policy.document import sample_document, spec_document
from lagscaler.policy.model import PartitionSample, Sample, Spec

CONSUMER = """
apiVersion: taskbridge.dev/v1alpha1
kind: KafkaConsumer
metadata: {name: orders}
spec: {targetRef: {name: worker}, group: g, topics: [t]}
"""
CUTOVER = """
apiVersion: taskbridge.dev/v1alpha1
kind: Cutover
metadata: {name: orders}
spec: {service: orders}
"""


def history(lag: float) -> str:
    """Return a saved history of a consumer that falls further behind."""
    samples = [
        Sample(
            1_800_000_000.0 + 10 * number,
            {("t", part): PartitionSample(0, 1_000.0 + lag * number, 1_000.0 + 10 * number, busy=1.0, member=f"m{part}")
             for part in range(4)},
            1, 1, 1,
        )
        for number in range(8)
    ]  # fmt: skip
    return json.dumps({"spec": spec_document(Spec(capacity=4.0)), "history": [sample_document(one) for one in samples]})


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
    """Return exit status and everything that was printed."""
    done = CliRunner().invoke(main, list(arguments), input=stdin)
    return done.exit_code, done.output


def test_explain_decides_and_says_why() -> None:
    status, said = run("explain", "-", stdin=history(1_000))
    assert status == 0
    assert "replicas: " in said.splitlines()[0]
    status, said = run("explain", "--json", "-", stdin=history(1_000))
    decision = json.loads(said)
    assert decision["replicas"] > 1
    assert decision["sentence"]
    status, said = run("explain", "--all", "--json", "-", stdin=history(1_000))
    assert [json.loads(line)["lag"] for line in said.splitlines()] == sorted(
        json.loads(line)["lag"] for line in said.splitlines()
    )
    assert len(said.splitlines()) == 8


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"history": []}', '{"history": [{"at": "now"}]}', '{"history": [{}]}'],
)  # fmt: skip
def test_explain_refuses_what_is_no_history(text: str) -> None:
    status, said = run("explain", "-", stdin=text)
    assert status == 1
    assert "is not a history" in said


def test_validate(tmp_path: Path) -> None:
    config, good, bad = tmp_path / "config.yaml", tmp_path / "good.yaml", tmp_path / "bad.yaml"
    config.write_text("clusters: {main: {bootstrapServers: 'kafka:9092'}}")
    good.write_text(f"{CONSUMER}---{CUTOVER}---\nkind: Deployment\n---\n")
    status, said = run("validate", "--config", str(config), str(good))
    assert status == 0, said
    assert "1 clusters, 0 bridges" in said
    assert f"{good}: KafkaConsumer orders" in said
    assert f"{good}: Cutover orders" in said
    bad.write_text(CONSUMER.replace("topics: [t]", "topics: []"))
    config.write_text("cluster: {}")
    status, said = run("validate", "--config", str(config), str(bad))
    assert status == 1
    assert "there is no setting 'cluster'" in said
    assert "KafkaConsumer orders: spec.topics must be a list of names" in said
    bad.write_text("[")
    assert "bad.yaml cannot be read" in run("validate", str(bad))[1]
    bad.write_text(CONSUMER.replace("KafkaConsumer", "KafkaProducer"))
    assert run("validate", str(bad))[0] == 1


def test_wrong_use() -> None:
    assert run("validate")[0] == 2
    assert run("explain")[0] == 2
    status, said = run("run", "--http", "8080")
    assert status == 2
    assert "--http is HOST:PORT" in said


def test_run_says_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    status, said = run("run", "--config", str(tmp_path / "none.yaml"))
    assert status == 1
    assert "none.yaml cannot be read: No such file or directory; name the file with --config" in said


@pytest.mark.parametrize("command", [(), ("run",), ("explain",), ("validate",)])
def test_help_has_examples_and_exit_codes(command: tuple[str, ...]) -> None:
    status, said = run(*command, "--help")
    assert status == 0
    assert "Examples:" in said
    assert "python -m lagscaler" in said
    assert "Exit status:" in said
