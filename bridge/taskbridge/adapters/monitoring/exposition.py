"""Samples in Prometheus' text format, or that of OpenMetrics where the client prefers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from taskbridge.adapters.monitoring.families import Family
from taskbridge.adapters.monitoring.samples import Distribution, Sample

Read = Callable[[], Iterable[Sample]]


class Samples(Collector):
    """Asks for samples whenever somebody looks; nothing is kept in between."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, each with all of its samples."""
        found: dict[str, Metric] = {}
        for family, labels, value in self._read():
            metric = found.get(family.name)
            if metric is None:
                metric = found[family.name] = _metric(family)
            if isinstance(metric, HistogramMetricFamily) and isinstance(value, Distribution):
                metric.add_metric(labels, [(_bound(bound), count) for bound, count in value.buckets], value.total)
            elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily) and not isinstance(value, Distribution):
                metric.add_metric(labels, value)
        yield from found.values()


def _metric(family: Family) -> Metric:
    if family.kind == "counter":
        return CounterMetricFamily(family.name, family.meaning, labels=family.labels)
    if family.kind == "gauge":
        return GaugeMetricFamily(family.name, family.meaning, labels=family.labels)
    return HistogramMetricFamily(family.name, family.meaning, labels=family.labels)


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)


def exposed(collectors: Iterable[Collector], accept: str) -> tuple[bytes, str]:
    """Return what the collectors tell, and its content type; `accept` is the header of the request."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
