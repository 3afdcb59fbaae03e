"""The operator's metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from lagscaler.metrics import Metrics


def series(metrics: Metrics) -> dict[str, set[str]]:
    """Return the names of consumers by metric, of what carries one."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if "name" in sample.labels:
                found.setdefault(family.name, set()).add(sample.labels["name"])
    return found


def test_every_metric_has_our_prefix_and_a_sentence() -> None:
    families = list(text_string_to_metric_families(Metrics("1.2").exposition().decode()))
    assert len(families) > 20
    for family in families:
        assert family.name.startswith("lagscaler_")
        assert family.documentation.endswith(".")
    assert [
        sample.labels for family in families if family.name == "lagscaler_build_info" for sample in family.samples
    ] == [{"version": "1.2"}]


def test_what_is_gone_leaves_no_series() -> None:
    metrics = Metrics("1")
    for name in ("orders", "fraud"):
        metrics.lag_seconds.labels("shop", name).set(1)
        metrics.decisions.labels("shop", name, "Steady").inc()
        metrics.partitions.labels("shop", name, "Hot").set(0)
        metrics.cutover_in_sync.labels("shop", name).set(1)
        metrics.cutover_requests.labels("shop", name, "Applied").inc()
    metrics.forget_consumer("shop", "orders")
    metrics.forget_cutover("shop", "fraud")
    found = series(metrics)
    assert found["lagscaler_lag_seconds"] == found["lagscaler_decisions"] == found["lagscaler_partitions"] == {"fraud"}
    assert found["lagscaler_cutover_in_sync"] == found["lagscaler_cutover_requests"] == {"orders"}


def test_a_bridge_that_is_gone_leaves_no_series() -> None:
    metrics = Metrics("1")
    for name in ("main", "other"):
        metrics.bridge_up.labels(name).set(0)
    metrics.forget_bridge("main")
    metrics.forget_bridge("never-seen")
    assert metrics.registry.get_sample_value("lagscaler_bridge_up", {"bridge": "main"}) is None
    assert metrics.registry.get_sample_value("lagscaler_bridge_up", {"bridge": "other"}) == 0
