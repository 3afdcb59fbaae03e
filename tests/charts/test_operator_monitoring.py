"""Alerts and dashboard of the operator ask for metrics that it has, by labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Counter, Histogram

from lagscaler.metrics import Metrics
from lagscaler.policy.model import Gap, PartitionState, Reason
from tests.charts.test_dashboards import OF_THE_TARGET, Query
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
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads(BOARD.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTING = [Query(rule["alert"], rule["expr"]) for rule in RULES]
SHOWN = [Query(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def selectors(query: Query) -> list[Any]:
    return [node for node in query.nodes() if isinstance(node, promql_parser.VectorSelector)]


def unknown(query: Query) -> set[str]:
    """Return metrics that the operator does not have, labels that they do not have, words that these do not say."""
    wrong = set()
    for one in selectors(query):
        labels = METRICS.get(one.name)
        if labels is None:
            wrong.add(str(one.name))
            continue
        for matcher in one.matchers.matchers:
            if matcher.name not in labels:
                wrong.add(f"{one.name}{{{matcher.name}}}")
            words = WORDS.get(matcher.name)
            wrong |= set() if words is None else set(matcher.value.split("|")) - words
    for node in query.nodes():
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            inside = Query(query.place, node.expr.prettify())
            wrong |= set(node.modifier.labels) - set.union(*(METRICS.get(one.name, set()) for one in selectors(inside)))
    return wrong


@pytest.mark.parametrize("query", [*ALERTING, *SHOWN], ids=str)
def test_every_metric_label_and_word_exists(query: Query) -> None:
    assert unknown(query) == set()


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
    assert unknown(Query("here", text)) == wrong


@pytest.mark.parametrize("query", [*ALERTING, *SHOWN], ids=str)
def test_counters_are_only_looked_at_as_rates(query: Query) -> None:
    ranges = {node.vector_selector.name for node in query.nodes() if isinstance(node, promql_parser.MatrixSelector)}

    assert ({one.name for one in selectors(query)} & COUNTERS) <= ranges


def test_every_metric_is_shown() -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", one.name) for query in SHOWN for one in selectors(query)}

    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRICS} == shown


def test_an_alert_can_be_seen_on_the_dashboard() -> None:
    alerting = {one.name for query in ALERTING for one in selectors(query)}

    assert alerting <= {one.name for query in SHOWN for one in selectors(query)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["alert"].startswith("Lagscaler")
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert all(text.strip() for text in rule["annotations"].values())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_only_labels_that_it_has(rule: dict[str, Any]) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = {
        label
        for node in Query(rule["alert"], rule["expr"]).nodes()
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None
        for label in node.modifier.labels
    }

    assert used <= kept


def test_reasons_that_an_alert_sends_people_to_are_reasons() -> None:
    text = next(rule["annotations"]["description"] for rule in RULES if rule["alert"] == "LagscalerBehind")

    assert {"Limited", "Stalled", "HotPartition"} <= set(re.findall(r"\w+", text)) & {*Reason}


def test_every_alert_has_a_name_of_its_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 15


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert DASHBOARD["uid"] == "taskbridge-consumers"
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert used == variables == {"datasource", "namespace", "consumer"}


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFG"[: len(panel["targets"])]]


def test_what_belongs_to_a_namespace_is_shown_for_the_one_that_was_chosen() -> None:
    own = {name for name in METRICS if "name" in METRICS[name]}
    for query in SHOWN:
        for one in selectors(query):
            chosen = any(matcher.name == "namespace" for matcher in one.matchers.matchers)
            assert chosen == (one.name in own), query.text
