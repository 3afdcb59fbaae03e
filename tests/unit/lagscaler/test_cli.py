"""The commands of `python -m lagscaler`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lagscaler.cli import main
from lagscaler.policy.decide import decide
from lagscaler.policy.document import decision_document, sample_document, spec_document, state_document
from lagscaler.policy.history import History
from lagscaler.policy.model import PartitionSample, Sample, Spec, State
from tests.unit.lagscaler.crds import definition, schema_of

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


HISTORY = '{"spec": SPEC, "state": STATE, "history": [{"at": 1, "partitions": {}, "replicas": 1, "ready": 1}]}'


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
    "text",
    [
        "", "[]", "{}", '{"history": []}', '{"history": [{"at": "now"}]}', '{"history": [{}]}', '{"history": [5]}',
        '{"history": {"a": 1}}', '{"history": "abc"}', HISTORY.replace("SPEC", "[1]").replace("STATE", "null"),
        HISTORY.replace("SPEC", "null").replace("STATE", "5"),
    ],
)  # fmt: skip
def test_explain_refuses_what_is_no_history(text: str) -> None:
    status, said = run("explain", "-", stdin=text)
    assert status == 1
    assert "is not a history" in said


def test_explain_refuses_what_cannot_be_decided_on() -> None:
    saved = json.loads(history(1_000))
    status, said = run("explain", "-", stdin=json.dumps({**saved, "history": saved["history"][::-1]}))
    assert status == 1
    assert "is not a history: samples are not in ascending order of `at`" in said
    for arguments in ((), ("--all",)):
        status, said = run("explain", *arguments, "-", stdin=json.dumps({**saved, "spec": {"latency": 0}}))
        assert status == 1
        assert "holds values out of range" in said


def test_explain_decides_as_was_decided() -> None:
    """What is served after each of many decisions leads to the same one again, sentence and all."""
    spec, state, kept = Spec(capacity=10.0), State(), History(600.0)
    committed, ends, replicas, seen = [0.0] * 8, [0.0] * 8, 1, set()
    for number in range(60):
        rate = 4 if number < 20 else 40
        for part in range(8):
            ends[part] += rate / 8 * 10
            committed[part] += min(ends[part] - committed[part], replicas * 10 * 10 / 8)
        kept.add(
            Sample(
                1_800_000_000.0 + 10.12345678 * number,
                {("t", part): PartitionSample(0, ends[part], committed[part], busy=0.5, member=f"m{part % replicas}")
                 for part in range(8)},
                replicas, replicas, replicas,
            )
        )  # fmt: skip
        decision = decide(kept, spec, state)
        saved = {
            "spec": spec_document(spec),
            "state": state_document(state, exact=True),
            "history": [sample_document(one) for one in kept],
        }
        status, said = run("explain", "--json", "-", stdin=json.dumps(saved))
        assert (status, json.loads(said)) == (0, json.loads(json.dumps(decision_document(decision))))
        seen.add(decision.reason)
        state, replicas = decision.state, decision.replicas
    assert len(seen) > 3


def test_explain_of_every_sample_begins_with_the_capacity_only() -> None:
    saved = json.loads(history(1_000))
    del saved["spec"]["capacity"]
    saved["state"] = state_document(State(capacity=4.0, breaches=9, changes=(1_799_999_999.0,) * 30))
    said = run("explain", "--all", "--json", "-", stdin=json.dumps(saved))
    saved["state"] = state_document(State(capacity=4.0))
    assert said == run("explain", "--all", "--json", "-", stdin=json.dumps(saved))
    assert json.loads(said[1].splitlines()[0])["capacity"] == 4.0
    assert "from the learned capacity alone" in " ".join(run("explain", "--help")[1].split())


def test_validate(tmp_path: Path) -> None:
    config, good, bad = tmp_path / "config.yaml", tmp_path / "good.yaml", tmp_path / "bad.yaml"
    config.write_text("clusters: {main: {bootstrapServers: 'kafka:9092'}}")
    good.write_text(f"{CONSUMER}---{CUTOVER}---\nkind: Deployment\n---\n")
    status, said = run("validate", "--config", str(config), str(good))
    assert status == 0, said
    assert "1 cluster, 0 bridges" in said
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONSUMER + "kind: Cutover\n", "'kind' stands there twice"),
        (CONSUMER.replace("{name: orders}", "hello"), "metadata is not a mapping"),
        (CONSUMER.replace("{name: orders}", "{name: 5}"), "metadata.name must be a text, not 5"),
        (CONSUMER.replace("{name: orders}", "{}"), "metadata.name is missing"),
        (CONSUMER.replace("KafkaConsumer", "[x]"), "kind must be a text"),
        (CONSUMER.replace("KafkaConsumer", "KafkaProducer"), "there is no kind KafkaProducer"),
        (CONSUMER.replace("v1alpha1", "v1"), "apiVersion is taskbridge.dev/v1; known is taskbridge.dev/v1alpha1"),
        (CONSUMER.replace("[t]}", "[t], slo: {latencySecond: 5}}"), "spec.slo: there is no field 'latencySecond'"),
        (CONSUMER.replace("[t]}", "[t], scaling: {maxReplica: 5}}"), "spec.scaling: there is no field 'maxReplica'"),
        (CONSUMER.replace("[t]}", "[t], moed: Auto}"), "spec: there is no field 'moed'"),
        (CONSUMER.replace("spec:", "statsu: {}\nspec:"), "there is no field 'statsu'"),
        (CONSUMER.replace("[t]}", "[t], scaling: {minReplicas: .inf}}"), "spec.scaling.minReplicas must be a number"),
        (CONSUMER.replace("[t]}", "[t], slo: {latencySeconds: .nan}}"), "spec.slo.latencySeconds must be a number"),
        (CONSUMER.replace("spec: {", "spec: [{").replace("[t]}", "[t]}]"), "spec is not a mapping"),
        (CUTOVER.replace("service: orders", "service: orders, stag: off"), "spec: there is no field 'stag'"),
        (CUTOVER.replace("{name: orders}", "{name: a, annotations: [b]}"), "metadata.annotations is not a mapping"),
        ("- a\n- b\n", "a document is not a mapping"),
        ("a: 2026-13-41\n", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
)  # fmt: skip
def test_validate_tells_what_is_wrong_with_a_manifest(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(text)
    status, said = run("validate", str(path))
    assert status == 1
    assert said.startswith(f"Error: {path}")
    assert words in said


def test_validate_takes_every_field_of_the_definitions(tmp_path: Path) -> None:
    """Filled in with something of the right kind, whatever the API server would say of its range."""
    kinds = {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": ["x"]}

    def filled(schema: dict[str, Any]) -> Any:
        if schema["type"] == "object":
            return {name: filled(inner) for name, inner in schema["properties"].items()}
        return schema["enum"][0] if "enum" in schema else kinds[schema["type"]]

    for kind, plural in (("KafkaConsumer", "kafkaconsumers"), ("Cutover", "cutovers")):
        spec = filled(schema_of(definition(plural), "spec"))
        path = tmp_path / f"{plural}.yaml"
        body = {"apiVersion": "taskbridge.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
        path.write_text(json.dumps(body))
        assert run("validate", str(path)) == (0, f"{path}: {kind} a\n")


def test_wrong_use() -> None:
    assert run("validate")[0] == 2
    assert run("explain")[0] == 2
    status, said = run("run", "--http", "8080")
    assert status == 2
    assert "--http is HOST:PORT" in said
    for port in ("0", "65536", "99999", "-1"):
        status, said = run("run", "--http", f"127.0.0.1:{port}")
        assert status == 2
        assert f"--http is HOST:PORT with a port from 1 to 65535, not '127.0.0.1:{port}'" in said


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
