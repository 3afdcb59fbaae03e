"""Queries, alerts and dashboards, taken apart for the tests of the charts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser

OF_THE_TARGET = {"namespace", "pod", "container", "job", "instance"}
"""Labels that Prometheus adds to whatever a pod tells."""


@dataclass(frozen=True)
class Query:
    """One expression, and where it stands."""

    place: str
    text: str

    def __str__(self) -> str:
        return self.place

    @property
    def parsed(self) -> promql_parser.Expr:
        # Grafana's own variables stand where PromQL has durations; those in label values are text to it.
        return promql_parser.parse(self.text.replace("$__rate_interval", "5m"))

    def nodes(self) -> list[Any]:
        """Return every part of the expression, the outermost first."""
        found: list[Any] = []
        promql_parser.walk(self.parsed, pre_visit=found.append)
        return found

    def selectors(self) -> list[Any]:
        """Return what it asks for: each has a name and matchers."""
        return [node for node in self.nodes() if isinstance(node, promql_parser.VectorSelector)]

    def groupings(self) -> list[tuple[set[str], Query]]:
        """Return the labels that each aggregation keeps or drops, with what it aggregates."""
        return [
            (set(node.modifier.labels), Query(self.place, node.expr.prettify()))
            for node in self.nodes()
            if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None
        ]

    def ranges(self) -> set[str]:
        """Return the metrics that it looks at over a range, as a rate does."""
        nodes = (node for node in self.nodes() if isinstance(node, promql_parser.MatrixSelector))
        return {node.vector_selector.name for node in nodes}


def unknown(query: Query, metrics: Mapping[str, set[str]], words: Mapping[str, set[str]]) -> set[str]:
    """
    Return what of a query does not exist: metrics, labels that its metrics lack, words that labels never say.

    `metrics` gives the labels of each metric, `words` what a label may say (one that is not in it may say anything).
    """
    wrong = set()
    for one in query.selectors():
        labels = metrics.get(one.name)
        if labels is None:
            wrong.add(str(one.name))
            continue
        for matcher in one.matchers.matchers:
            if matcher.name not in labels:
                wrong.add(f"{one.name}{{{matcher.name}}}")
            said = set(matcher.value.split("|"))
            wrong |= said - words.get(matcher.name, said)
    for labels, inside in query.groupings():
        wrong |= labels - set.union(*(metrics.get(one.name, set()) for one in inside.selectors()))
    return wrong


def check_alert(rule: Mapping[str, Any], prefix: str) -> None:
    """Fail unless an alert says how bad it is, what to do, and uses only labels that its expression has."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["alert"].startswith(prefix)
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert all(text.strip() for text in rule["annotations"].values())
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert used <= {label for labels, _ in Query(rule["alert"], rule["expr"]).groupings() for label in labels}


def check_layout(board: Mapping[str, Any]) -> None:
    """Fail unless the panels of a dashboard have ids of their own, and each a place of its own within 24 columns."""
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def check_panel(panel: Mapping[str, Any]) -> None:
    """Fail unless a panel says what it shows and in which unit, and names its queries as Grafana does."""
    assert panel["description"].endswith((".", "?")), panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFG"[: len(panel["targets"])]], panel["title"]


def variables(board: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the variables that a dashboard has, and those that it uses."""
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"__rate_interval", "__all"}
    return {variable["name"] for variable in board["templating"]["list"]}, used
