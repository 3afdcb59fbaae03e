"""Alerts and dashboards ask for metrics that the bridge has, by labels that these have, and say what they mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import promql_parser
import pytest
import yaml

from taskbridge.adapters.monitoring.families import FAMILIES
from taskbridge.adapters.monitoring.samples import CAUSES, REASONS, SERVERS, of_dispatch, of_worker
from taskbridge.observation import Outcome
from taskbridge.worker.executors import STATES
from taskbridge.worker.snapshot import Snapshot
from tests.charts.monitoring import OF_THE_TARGET, Query, check_alert, check_layout, check_panel, unknown, variables
from tests.documents import ROOT

FILES = ROOT / "charts" / "shop" / "files"
ALERTS = sorted((FILES / "alerts").glob("*.yaml"))
BOARDS = sorted((FILES / "dashboards").glob("*.json"))

METRICS = {
    name: {*family.labels, *OF_THE_TARGET, *extra}
    for family in FAMILIES
    for name, extra in (
        [(f"{family.name}_bucket", ["le"]), (f"{family.name}_sum", []), (f"{family.name}_count", [])]
        if family.kind == "histogram"
        else [(family.name, [])]
    )
}

WORDS = {
    "role": {"live", "shadow"},
    "outcome": set(get_args(Outcome)),
    "road": {"celery", "kafka", "delayed", "outbox"},
    "fate": {"sent", "lost"},
    "reason": {*REASONS, "refused", "breaker", "unsupported", "ambiguous"},
    "cause": set(CAUSES),
    "state": set(STATES),
    "server": set(SERVERS.values()),
}
"""What these labels may say."""

COUNTERS = {family.name for family in FAMILIES if family.kind == "counter"}


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in ALERTS:
        for group in yaml.safe_load(path.read_text())["spec"]["groups"]:
            for rule in group["rules"]:
                yield f"{path.name}:{rule['alert']}", rule


def boards() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in BOARDS:
        yield path.name, json.loads(path.read_text())


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what shows something, and no rows."""
    for name, board in boards():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield f"{name}:{panel['title']}", panel


RULES, PANELS = dict(rules()), dict(panels())
QUERIES = [
    *(Query(place, rule["expr"]) for place, rule in RULES.items()),
    *(Query(place, target["expr"]) for place, panel in PANELS.items() for target in panel["targets"]),
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_metric_label_and_word_exists(query: Query) -> None:
    assert unknown(query, METRICS, WORDS) == set()


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_counters_are_only_looked_at_as_rates(query: Query) -> None:
    """A counter by itself tells when its process was started. (Whether it is there at all, `unless` may ask.)"""
    bare = Query(query.place, query.text.partition("unless")[0])
    assert ({one.name for one in bare.selectors()} & COUNTERS) <= bare.ranges()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sum(taskbridge_nothing)", {"taskbridge_nothing"}),
        ('taskbridge_relay_trouble{servre="kafka"}', {"taskbridge_relay_trouble{servre}"}),
        ('taskbridge_worker_lag_records{role="lively"}', {"lively"}),
        ("sum by (servce) (taskbridge_worker_lag_records)", {"servce"}),
    ],
)
def test_what_does_not_exist_is_found(text: str, wrong: set[str]) -> None:
    assert unknown(Query("here", text), METRICS, WORDS) == wrong


def test_the_words_are_those_of_the_code() -> None:
    services = of_dispatch(["orders"], {})
    told = {
        (label, word)
        for family, words, _ in [*services, *of_worker("orders", "live", True, Snapshot())]
        for label, word in zip(family.labels, words, strict=True)
        if label in WORDS
    }
    assert told >= {(label, word) for label in ("road", "fate", "state", "cause") for word in WORDS[label]}
    assert told <= {(label, word) for label, words in WORDS.items() for word in words}


def test_every_metric_is_shown_somewhere() -> None:
    asked = {str(one.name) for query in QUERIES for one in query.selectors()}
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} | asked
    assert {family.name for family in FAMILIES} <= bases


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    check_alert(rule, "Taskbridge")


def test_every_alert_has_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in RULES.values()]
    groups = [group["name"] for path in ALERTS for group in yaml.safe_load(path.read_text())["spec"]["groups"]]
    assert len(set(names)) == len(names) > 20
    assert len(set(groups)) == len(groups)


def test_an_alert_can_be_seen_on_a_dashboard() -> None:
    def names(queries: list[Query]) -> set[Any]:
        return {one.name for query in queries for one in query.selectors()}

    alerting = names([Query(place, rule["expr"]) for place, rule in RULES.items()])
    shown = names([query for query in QUERIES if query.place in PANELS])
    assert alerting <= shown


@pytest.mark.parametrize(("name", "board"), list(boards()), ids=[path.name for path in BOARDS])
def test_a_dashboard_is_whole(name: str, board: dict[str, Any]) -> None:
    check_layout(board)
    assert board["uid"] == f"taskbridge-{name.removesuffix('.json')}"
    assert board["description"]
    there, used = variables(board)
    assert used <= there
    assert {"datasource", "namespace"} <= there


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    check_panel(panel)


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panel_keeps_to_the_namespace_that_was_chosen(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for one in Query("", target["expr"]).selectors():
            assert any(matcher.value == "$namespace" for matcher in one.matchers.matchers)


def platform_alerts() -> list[dict[str, Any]]:
    files = (ROOT / "charts" / "kafka" / "files" / "alerts").glob("*.yaml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def test_the_platform_alerts_parse() -> None:
    found = platform_alerts()
    assert len(found) > 5
    assert len({one["alert"] for one in found}) == len(found)
    for one in found:
        promql_parser.parse(one["expr"])
        assert one["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(one["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize(
    ("claim", "full"),
    [
        ("data-0-main-broker-3", True),
        ("data-0-main-node-0", True),
        ("data-0-other-node-0", False),
        ("data-shop-postgresql-0", False),
    ],
)
def test_only_volumes_of_brokers_fill_up_as_theirs(claim: str, full: bool) -> None:
    (rule,) = (one for one in platform_alerts() if one["alert"] == "KafkaDiskFillsUp")
    asked = Query("here", rule["expr"].replace("CLUSTER", "main")).selectors()
    patterns = [one.value for node in asked for one in node.matchers.matchers if one.name == "persistentvolumeclaim"]
    assert [bool(re.fullmatch(pattern, claim)) for pattern in patterns] == [full] * 3
