"""Samples as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from taskbridge.adapters.monitoring import families
from taskbridge.adapters.monitoring.exposition import Samples, exposed
from taskbridge.adapters.monitoring.samples import Distribution, Sample

DURATION = Distribution(((0.5, 1), (float("inf"), 3)), 7.25)


def samples() -> list[Sample]:
    return [
        Sample(families.WORKER_JOINED, ("orders", "live"), 1.0),
        Sample(families.WORKER_TASKS, ("orders", "live", "a", "success"), 2),
        Sample(families.WORKER_BUSY, ("orders", "live"), 0.5),
        Sample(families.WORKER_TASKS, ("orders", "live", 'with "quotes"\n', "failure"), 3),
        Sample(families.WORKER_DURATION, ("orders", "live"), DURATION),
    ]


def test_the_text_says_what_the_samples_said() -> None:
    body, content_type = exposed([Samples(samples)], "text/plain")
    assert content_type.startswith("text/plain; version=")
    found = {metric.name: metric for metric in text_string_to_metric_families(body.decode())}
    assert found["taskbridge_worker_tasks"].type == "counter"
    own = {"service": "orders", "role": "live"}
    assert [(sample.labels, sample.value) for sample in found["taskbridge_worker_tasks"].samples] == [
        (own | {"task": "a", "outcome": "success"}, 2.0),
        (own | {"task": 'with "quotes"\n', "outcome": "failure"}, 3.0),
    ]
    assert found["taskbridge_worker_busy_ratio"].type == "gauge"
    duration = found["taskbridge_worker_task_duration_seconds"]
    assert duration.type == "histogram"
    assert {(sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value for sample in duration.samples} == {
        ("bucket", "0.5"): 1.0,
        ("bucket", "+Inf"): 3.0,
        ("count", None): 3.0,
        ("sum", None): 7.25,
    }
    assert found["taskbridge_worker_joined"].documentation == families.WORKER_JOINED.meaning


def test_who_prefers_openmetrics_gets_it() -> None:
    body, content_type = exposed([Samples(samples)], "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    assert len(list(openmetrics.text_string_to_metric_families(body.decode()))) == 4


def test_each_look_is_a_new_one() -> None:
    found = samples()[:1]
    collectors = [Samples(lambda: found)]
    assert b"taskbridge_worker_joined" in exposed(collectors, "")[0]
    found.clear()
    assert exposed(collectors, "")[0] == b""
