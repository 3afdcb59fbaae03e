"""Alerts and dashboard of the operator ask for metrics that it has, by labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

from lagscaler.metrics import Metrics
from lagscaler.policy.model import Gap, PartitionState, Reason
from tests.charts.monitoring import OF_THE_TARGET, Query, check_alert, check_layout, check_panel, unknown, variables
from tests.documents import ROOT

FILES = ROOT / "charts" / "operator" / "files"
[ALERTS] = sorted((FILES / "alerts").glob("*.yaml"))
[BOARD] = sorted((FILES / "dashboards").glob("*.json"))


def metrics() -> Iterator[tuple[str, set[str]]]:
    """Yield the name under which Prometheus has each series, with its labels."""
    for metric in vars(Metrics("1")).values():
        labels = {*getattr(metric, "_labelnames", ()), *OF_THE_TARGET}
        match metric:
            case Counter():
                yield f"{metric._name}_total", labels
            case Histogram():
                yield from ((f"{metric._name}_{part}", labels | {"le"}) for part in ("bucket", "sum", "count"))
            case _ if hasattr(metric, "_labelnames"):
                yield metric._name, labels


METRICS = dict(metrics())
COUNTERS = {name for name in METRICS if name.endswith(("_total", "_bucket"))}
WORDS = {
    "reason": {*Reason},
    "state": {*PartitionState},
    "gap": {*Gap},
    "outcome": {"Applied", "Refused"},
    "direction": {"up", "down"},
}
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["spec"]["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads(BOARD.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTING = [Query(rule["alert"], rule["expr"]) for rule in RULES]
SHOWN = [Query(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("query", [*ALERTING, *SHOWN], ids=str)
def test_every_metric_label_and_word_exists(query: Query) -> None:
    assert unknown(query, METRICS, WORDS) == set()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sum(lagscaler_nothing)", {"lagscaler_nothing"}),
        ('lagscaler_lag_seconds{consumer="x"}', {"lagscaler_lag_seconds{consumer}"}),
        ('lagscaler_partitions{state="Warm"}', {"Warm"}),
        ("sum by (nam) (lagscaler_lag_records)", {"nam"}),
    ],
)
def test_what_does_not_exist_is_found(text: str, wrong: set[str]) -> None:
    assert unknown(Query("here", text), METRICS, WORDS) == wrong


@pytest.mark.parametrize("query", [*ALERTING, *SHOWN], ids=str)
def test_counters_are_only_looked_at_as_rates(query: Query) -> None:
    assert ({one.name for one in query.selectors()} & COUNTERS) <= query.ranges()


def test_every_metric_is_shown() -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", one.name) for query in SHOWN for one in query.selectors()}

    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRICS} == shown


def test_an_alert_can_be_seen_on_the_dashboard() -> None:
    alerting = {one.name for query in ALERTING for one in query.selectors()}

    assert alerting <= {one.name for query in SHOWN for one in query.selectors()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    check_alert(rule, "Lagscaler")


def test_reasons_that_an_alert_sends_people_to_are_reasons() -> None:
    text = next(rule["annotations"]["description"] for rule in RULES if rule["alert"] == "LagscalerBehind")

    assert {"Limited", "Stalled", "HotPartition"} <= set(re.findall(r"\w+", text)) & {*Reason}


def test_every_alert_has_a_name_of_its_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 15


def test_the_dashboard_is_whole() -> None:
    check_layout(DASHBOARD)
    assert DASHBOARD["uid"] == "taskbridge-consumers"
    there, used = variables(DASHBOARD)
    assert used == there == {"datasource", "namespace", "consumer"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    check_panel(panel)


def test_what_belongs_to_a_namespace_is_shown_for_the_one_that_was_chosen() -> None:
    own = {name for name in METRICS if "name" in METRICS[name]}
    for query in SHOWN:
        for one in query.selectors():
            chosen = any(matcher.name == "namespace" for matcher in one.matchers.matchers)
            assert chosen == (one.name in own), query.text
