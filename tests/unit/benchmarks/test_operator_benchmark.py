"""How the operator's benchmark reads the operator, and what it gives it; without servers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks import operator_cluster, operator_traffic
from benchmarks.grounds import BenchmarkFailedError
from benchmarks.operator import SETTLE, main
from benchmarks.operator_cluster import Kubernetes, consumer, deployment
from benchmarks.operator_metrics import Histogram, Look, figures, memory_mib
from benchmarks.sampler import POLL, Consumers
from lagscaler.metrics import Metrics
from lagscaler.policy.model import Spec
from lagscaler.resources.consumer import parse_consumer
from lagscaler.resources.reading import Key
from lagscaler.resources.target import parse_target

NAMES = (("town", "workers-0000"), ("town", "workers-0001"))


@pytest.fixture
def metrics() -> Metrics:
    """The operator's own, so that a name which changes there is missed here."""
    return Metrics("1")


def look(metrics: Metrics, at: float, cpu: float) -> Look:
    return Look(at, cpu, metrics.exposition().decode())


def test_figures_are_of_the_time_between_two_looks(metrics: Metrics) -> None:
    requests = metrics.kubernetes_requests
    for names in NAMES:
        metrics.decisions.labels(*names, "Steady").inc(100)
    requests.labels("patch", "kafkaconsumers/status", "200").inc(1000)
    metrics.decision_delay_seconds.labels("main").observe(20.0)
    before = look(metrics, 500.0, 30.0)
    for names in NAMES:
        metrics.decisions.labels(*names, "Steady").inc(4)
        metrics.decisions.labels(*names, "Behind").inc(1)
    requests.labels("patch", "kafkaconsumers/status", "200").inc(1800)
    requests.labels("patch", "kafkaconsumers/status", "409").inc(2)
    requests.labels("list", "deployments", "0").inc()
    requests.labels("patch", "deployments/scale", "200").inc(6)
    requests.labels("create", "events", "201").inc(12)
    requests.labels("patch", "events", "200").inc(3)
    metrics.sample_errors.labels(*NAMES[0], "KafkaError").inc(7)
    for seconds in (0.3, 0.4, 0.7):
        metrics.decision_delay_seconds.labels("main").observe(seconds)
        metrics.sample_seconds.labels("main").observe(seconds / 2)
    found = figures(before, look(metrics, 560.0, 48.0), consumers=2, poll=10.0)
    assert found == {
        "core_share": pytest.approx(0.3),
        "decision_delay_median": pytest.approx(0.25 + 0.25 * 1.5 / 2),
        "decision_delay_at_most": 1.0,
        "sampling_seconds": pytest.approx(0.7 / 3),
        "looks": 3.0,
        "decisions_per_look": pytest.approx(10 / 6),
        "decisions_per_poll": pytest.approx(10 / 12),
        "status_writes_per_second": 30.0,
        "scale_writes_per_second": 0.1,
        "events_per_second": 0.25,
        "requests_failed": 3.0,
        "incomplete_looks": 7.0,
    }


def test_a_name_that_begins_like_another_is_not_taken_for_it(metrics: Metrics) -> None:
    metrics.lag_records.labels("town", 'a "quoted" {name}').set(7)
    metrics.lag_seconds.labels("town", "other").set(11)
    found = look(metrics, 0.0, 0.0)
    assert found.total("lagscaler_lag_records") == 7
    assert found.total("lagscaler_lag") == 0
    assert [labels["namespace"] for labels, _ in found.series("lagscaler_lag_records")] == ["town"]


def test_what_took_longer_than_the_last_bound_is_bounded_by_the_sum(metrics: Metrics) -> None:
    before = look(metrics, 0.0, 0.0)
    for seconds in (31.0, 40.0):
        metrics.decision_delay_seconds.labels("main").observe(seconds)
    found = Histogram.between(before, look(metrics, 1.0, 0.0), "lagscaler_decision_delay_seconds")
    assert found.at_most == 71.0
    assert 30.0 < found.quantile(0.5) <= 71.0


def test_an_operator_that_decides_nothing_has_no_figures(metrics: Metrics) -> None:
    with pytest.raises(BenchmarkFailedError, match="looked at nothing"):
        figures(look(metrics, 0.0, 0.0), look(metrics, 60.0, 1.0), consumers=2, poll=10.0)


def test_memory_is_that_of_now_and_that_of_the_worst_moment() -> None:
    before, _ = memory_mib(os.getpid())
    held = b"x" * (64 << 20)
    during, _ = memory_mib(os.getpid())
    assert during - before == pytest.approx(64, abs=16)
    del held
    after, most = memory_mib(os.getpid())
    # The kernel counts pages in lots.
    assert after < during < most + 1


def test_the_operator_is_given_consumers_that_it_takes_as_they_come() -> None:
    (request, *_) = Consumers(topics=2, partitions=3, consumers=2).requests
    document = consumer(request)
    document["metadata"] |= {"namespace": "town", "uid": "1", "resourceVersion": "1", "generation": 1}
    found = parse_consumer(document, strict=True)
    assert (found.key, found.group, found.topics) == (Key("town", request.group), request.group, request.topics)
    body = deployment(request.group)
    body["metadata"] |= {"namespace": "town", "resourceVersion": "1"}
    target = parse_target(body)
    assert (target.key, target.replicas) == (Key("town", found.target), 1)
    assert found.policy.poll == POLL


def test_the_first_round_begins_when_the_history_is_full() -> None:
    assert Spec().window + POLL <= SETTLE


def test_without_root_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKBRIDGE_TEST_KUBECONFIG", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = CliRunner().invoke(main, ["--quick"])
    assert done.exit_code == 1
    assert "Only root" in done.output
    assert "--kubeconfig" in done.output


def test_a_cluster_that_was_started_is_ended_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Started:
        def __init__(self, state_dir: Path, _: object) -> None:
            self.layout = SimpleNamespace(kubeconfig=state_dir / "kubeconfig")

        def up(self) -> None:
            done.append("up")

        def down(self) -> None:
            done.append("down")

    monkeypatch.setattr(operator_cluster, "Cluster", Started)

    def fail() -> None:
        with operator_cluster.cluster_for(None) as kubeconfig:
            assert (kubeconfig.name, done) == ("kubeconfig", ["up"])
            raise BenchmarkFailedError("what was measured means nothing")

    with pytest.raises(BenchmarkFailedError, match="means nothing"):
        fail()
    assert done == ["up", "down"]
    with operator_cluster.cluster_for(Path("given")) as kubeconfig:
        assert kubeconfig == Path("given")
    assert done == ["up", "down"]


def test_a_kubeconfig_that_is_none_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("kube") / "config"
    path.write_text("{}")

    async def enter() -> None:
        async with Kubernetes(path):
            pass

    with pytest.raises(BenchmarkFailedError, match="is no kubeconfig"):
        asyncio.run(enter())


class Full:
    """A producer without a place for the first `refusals` records."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.written = refusals, 0

    def produce(self, *_: object, **__: object) -> None:
        if self.refusals:
            self.refusals -= 1
            raise BufferError
        self.written += 1

    def poll(self, _: float) -> None:
        """Let nothing be sent."""


def test_a_broker_that_falls_behind_is_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Full(3)
    operator_traffic._write(late, "t", 0)
    assert (late.refusals, late.written) == (0, 1)
    monkeypatch.setattr(operator_traffic, "PATIENCE", -1.0)
    with pytest.raises(BufferError):
        operator_traffic._write(Full(3), "t", 0)
