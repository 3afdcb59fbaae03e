"""The operator's Prometheus metrics: every name, its labels and its help text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONSUMER = ("namespace", "name")
"""Labels that name a KafkaConsumer or a Cutover."""


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, version: str) -> None:
        """`version` is the operator's, for `lagscaler_build_info`."""
        self.registry = CollectorRegistry()
        self.lag_records = Gauge("lagscaler_lag_records", "Records not finished.", CONSUMER, registry=self.registry)
        self.lag_seconds = Gauge(
            "lagscaler_lag_seconds",
            "Seconds since the oldest unfinished record was written.",
            CONSUMER,
            registry=self.registry,
        )
        self.slo_seconds = Gauge(
            "lagscaler_slo_seconds",
            "The objective for lagscaler_lag_seconds, spec.slo.latencySeconds.",
            CONSUMER,
            registry=self.registry,
        )
        self.arrival_rate = Gauge(
            "lagscaler_arrival_rate", "Records a second that come in.", CONSUMER, registry=self.registry
        )
        self.capacity_per_replica = Gauge(
            "lagscaler_capacity_per_replica",
            "Records a second of one replica, as assumed.",
            CONSUMER,
            registry=self.registry,
        )
        self.replicas = Gauge(
            "lagscaler_replicas", "Replicas that the target's spec asks for.", CONSUMER, registry=self.registry
        )
        self.desired_replicas = Gauge(
            "lagscaler_desired_replicas",
            "Replicas that there should be, after bounds and budget.",
            CONSUMER,
            registry=self.registry,
        )
        self.ready = Gauge(
            "lagscaler_ready", "1 while nothing keeps the operator from its work.", CONSUMER, registry=self.registry
        )
        self.metrics_fresh = Gauge(
            "lagscaler_metrics_fresh", "1 while the last look at Kafka was complete.", CONSUMER, registry=self.registry
        )
        self.partitions = Gauge(
            "lagscaler_partitions",
            "Partitions by the state of their consumption.",
            (*CONSUMER, "state"),
            registry=self.registry,
        )
        self.decisions = Counter(
            "lagscaler_decisions", "Decisions of the policy, by reason.", (*CONSUMER, "reason"), registry=self.registry
        )
        self.scale_changes = Counter(
            "lagscaler_scale_changes",
            "Changes of replicas, by direction: up, down.",
            (*CONSUMER, "direction"),
            registry=self.registry,
        )
        self.replicas_overwritten = Counter(
            "lagscaler_replicas_overwritten", "Times that somebody else's write to the replicas was undone.",
            CONSUMER, registry=self.registry,
        )  # fmt: skip
        self.slo_violation_seconds = Counter(
            "lagscaler_slo_violation_seconds",
            "Seconds in which lag was over the objective.",
            CONSUMER,
            registry=self.registry,
        )
        self.sample_errors = Counter(
            "lagscaler_sample_errors",
            "Incomplete looks at Kafka, by what was missing.",
            (*CONSUMER, "gap"),
            registry=self.registry,
        )
        self.sample_seconds = Histogram(
            "lagscaler_sample_seconds", "How long a look at Kafka took, for all consumers that were due.", ("cluster",),
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30), registry=self.registry,
        )  # fmt: skip
        self.decision_delay_seconds = Histogram(
            "lagscaler_decision_delay_seconds", "From when a consumer was due to its decision.", ("cluster",),
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30), registry=self.registry,
        )  # fmt: skip
        self.cutover_in_sync = Gauge(
            "lagscaler_cutover_in_sync",
            "1 while the service stands where its Cutover asked for.",
            CONSUMER,
            registry=self.registry,
        )
        self.cutover_requests = Counter(
            "lagscaler_cutover_requests", "Requests to the bridge, by outcome: Applied, Refused.",
            (*CONSUMER, "outcome"), registry=self.registry,
        )  # fmt: skip
        self.bridge_up = Gauge(
            "lagscaler_bridge_up", "1 while the bridge's HTTP API answers.", ("bridge",), registry=self.registry
        )
        self.kubernetes_requests = Counter(
            "lagscaler_kubernetes_requests",
            "Requests to the Kubernetes API, by verb, resource and status code (0: none).",
            ("verb", "resource", "code"),
            registry=self.registry,
        )
        self.resources = Gauge(
            "lagscaler_resources", "Resources that are known, by kind.", ("kind",), registry=self.registry
        )
        self.settings_valid = Gauge(
            "lagscaler_settings_valid", "1 while the settings file can be used as it stands.", registry=self.registry
        )
        self.build_info = Gauge(
            "lagscaler_build_info", "Always 1; the label has the version.", ("version",), registry=self.registry
        )
        self.build_info.labels(version).set(1)

    def exposition(self) -> bytes:
        """Return all of them in the text format of Prometheus."""
        return generate_latest(self.registry)

    def forget_consumer(self, namespace: str, name: str) -> None:
        """Drop what is kept of a KafkaConsumer that is gone."""
        kept = (
            self.lag_records, self.lag_seconds, self.slo_seconds, self.arrival_rate, self.capacity_per_replica,
            self.replicas, self.desired_replicas, self.ready, self.metrics_fresh, self.partitions, self.decisions,
            self.scale_changes, self.replicas_overwritten, self.slo_violation_seconds, self.sample_errors,
        )  # fmt: skip
        for metric in kept:
            metric.remove_by_labels({"namespace": namespace, "name": name})

    def forget_bridge(self, name: str) -> None:
        """Drop what is kept of a bridge that the settings no longer have."""
        self.bridge_up.remove_by_labels({"bridge": name})

    def forget_cutover(self, namespace: str, name: str) -> None:
        """Drop what is kept of a Cutover that is gone."""
        for metric in (self.cutover_in_sync, self.cutover_requests):
            metric.remove_by_labels({"namespace": namespace, "name": name})
