"""The pages about the operator say what its definitions, its settings and its code say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from charts.definitions import Definitions
from charts.own import write_definitions
from charts.render import documents, find, render
from lagscaler.cli import main
from lagscaler.metrics import Metrics
from lagscaler.policy.model import Gap, Reason
from lagscaler.settings import BridgeSettings, ClusterSettings, Settings, parse_settings
from tests.charts.test_docs import HOWTO, flags, lines
from tests.documents import ROOT, blocks, codes, rows, section

REFERENCE = ROOT / "docs" / "reference"
PAGES = {"KafkaConsumer": REFERENCE / "kafkaconsumer.md", "Cutover": REFERENCE / "cutover.md"}
OPERATOR = REFERENCE / "operator.md"
SOURCES = sorted((ROOT / "operator" / "lagscaler").rglob("*.py"))

Schema = Mapping[str, Any]


@cache
def definition(kind: str) -> Schema:
    chart = find("operator")
    values = chart.scenario("minimal").values
    assert values is not None
    for item in documents(render(chart, [values])):
        if item["kind"] == "CustomResourceDefinition" and item["spec"]["names"]["kind"] == kind:
            [version] = item["spec"]["versions"]
            return dict(version)
    raise LookupError(kind)


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Yield every field with its path, and whether it has to be given."""
    for name, inner in schema["properties"].items():
        if "properties" in inner:
            yield from walk(inner, f"{path}{name}.")
        elif "properties" in inner.get("items", {}):
            yield f"{path}{name}[]", inner, False
        else:
            yield f"{path}{name}", inner, name in schema.get("required", ())


def part(kind: str, name: str) -> Schema:
    found: Schema = definition(kind)["schema"]["openAPIV3Schema"]["properties"][name]
    return found


def words(schema: Schema) -> str:
    """Return what may stand in a field, as the page writes it."""
    match schema:
        case {"enum": known}:
            return ", ".join(f"`{one}`" for one in known)
        case {"minimum": least, "maximum": most}:
            return f"{least:,} to {most:,}"
    return {"string": "text", "boolean": "true or false", "array": "list of texts"}[schema["type"]]


@pytest.mark.parametrize("kind", PAGES)
def test_every_field_of_the_spec_with_its_values_and_its_default(kind: str) -> None:
    table = rows(section(PAGES[kind], "Spec"), "field")
    stated = {codes(row[0])[0]: (row[1], row[2]) for row in table}
    known = {
        path: (words(schema), "required" if given else f"`{json.dumps(default)}`" if default is not None else "")
        for path, schema, given in walk(part(kind, "spec"))
        for default in [schema.get("default")]
    }

    assert stated == known
    assert all(row[3] for row in table)


@pytest.mark.parametrize("kind", PAGES)
def test_every_field_of_the_status(kind: str) -> None:
    table = rows(section(PAGES[kind], "Status"), "field")

    assert [codes(row[0])[0] for row in table] == [path for path, _, _ in walk(part(kind, "status"))]
    assert all(row[1] for row in table)


@pytest.mark.parametrize("kind", PAGES)
def test_every_column(kind: str) -> None:
    table = rows(section(PAGES[kind], "Columns"), "column")

    columns = definition(kind)["additionalPrinterColumns"]
    assert [(row[0], codes(row[1])[0]) for row in table] == [(one["name"], one["jsonPath"]) for one in columns]
    wide = {one["name"] for one in columns if one.get("priority")}
    assert {row[0] for row in table if "--output wide" in row[2]} == wide


@pytest.mark.parametrize("kind", PAGES)
def test_the_columns_that_a_page_shows_are_those_of_kubectl(kind: str) -> None:
    page = {"KafkaConsumer": "scale-consumers.md", "Cutover": "drive-the-migration-with-kubectl.md"}[kind]
    shown = next(block.text for block in blocks(HOWTO / page) if block.text.startswith("NAME"))
    columns = [one["name"].upper() for one in definition(kind)["additionalPrinterColumns"] if not one.get("priority")]

    assert shown.splitlines()[0].split() == ["NAME", *columns]
    starts = [shown.splitlines()[0].index(f"{name} ") for name in ["NAME", *columns[:-1]]]
    for line in shown.splitlines()[1:]:
        assert all(start == 0 or line[start - 1] == " " for start in starts), line


def texts(pattern: str, *folders: str) -> set[str]:
    """Return what a pattern finds in the operator's sources."""
    sources = [path for path in SOURCES if not folders or path.parent.name in folders or path.stem in folders]
    assert sources
    return {found for path in sources for found in re.findall(pattern, path.read_text())}


@pytest.mark.parametrize(("kind", "module"), [("KafkaConsumer", "consumer"), ("Cutover", "cutover")])
def test_every_condition(kind: str, module: str) -> None:
    code = (ROOT / "operator" / "lagscaler" / "controller" / f"{module}.py").read_text()
    known = set(re.findall(r'Condition\(\s*"(\w+)"', code))
    table = rows(section(PAGES[kind], "Status"), "condition")

    assert {codes(row[0])[0] for row in table} == known


def test_every_reason_of_a_decision() -> None:
    table = rows(section(PAGES["KafkaConsumer"], "Reasons"), "reason")

    stated = [codes(row[0])[0] for row in table]
    against = texts(r'Obstacle\(\s*"(\w+)"', "verdicts")
    assert set(stated) == {*Reason, *against}
    assert len(stated) == len(set(stated))


def test_reasons_that_a_cutovers_conditions_may_have() -> None:
    table = rows(section(PAGES["Cutover"], "Status"), "condition")
    stated = {codes(row[0])[0]: set(codes(row[2])) for row in table}

    troubles = texts(r'BridgeUnreachableError\(\s*"(\w+)"', "client") | texts(r'Trouble\(\s*"(\w+)"', "moving")
    assert stated["BridgeReachable"] == troubles | {"Answers", "Starting"}
    for reasons in stated.values():
        for reason in reasons - {"Accepted"}:
            assert texts(f'"({reason})"'), reason


def test_every_event() -> None:
    told = {name for row in rows(section(PAGES["KafkaConsumer"], "Events"), "event") for name in codes(row[0])}
    known = texts(r'"(Scaled\w+|ScaleHeld|ReplicasOverwritten|MetricsStale|Partition\w+)"', "consumer")

    assert told - {"Ready"} == known


def test_every_event_of_a_cutover() -> None:
    told = {name for row in rows(section(PAGES["Cutover"], "Events"), "event") for name in codes(row[0])}
    known = texts(r'Notice\("\w+", "(\w+)"', "moving") | texts(r'"(OutOfSync)" if', "moving")

    assert told - {"BridgeReachable"} == known


def test_remedies_are_for_reasons_that_there_are() -> None:
    page = HOWTO / "scale-consumers.md"
    more = {
        name
        for row in rows(section(page, "When there should be more, and are not"), "reason")
        for name in codes(row[0])
    }
    assert more <= {*Reason, *texts(r'Obstacle\(\s*"(\w+)"', "verdicts")}
    gaps = {name for row in rows(section(page, "When Kafka cannot be asked"), "reason") for name in codes(row[0])}
    assert gaps == {*Gap}


# Settings, commands, metrics


@pytest.mark.parametrize(
    ("column", "shape", "elsewhere"),
    [
        ("setting", Settings, set()),
        ("setting of a cluster", ClusterSettings, {"name"}),
        ("setting of a bridge", BridgeSettings, {"name"}),
    ],
)
def test_every_setting_with_its_default(column: str, shape: type[Any], elsewhere: set[str]) -> None:
    stated = {codes(row[0])[0]: row[1] for row in rows(section(OPERATOR, "Settings"), column)}
    known = {camel(one.name): one for one in fields(shape) if one.name not in elsewhere}

    assert set(stated) == set(known)
    for name, one in known.items():
        if one.default is MISSING and one.default_factory is MISSING:
            assert stated[name] == "required", name
            continue
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        written = codes(stated[name])
        assert (yaml.safe_load(written[0]) if written else None) == (list(default) if default == () else default), name


def camel(name: str) -> str:
    name = "pollSeconds" if name == "poll" else name
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def test_the_settings_that_are_shown_can_be_used() -> None:
    [shown] = [block.text for block in blocks(OPERATOR) if block.language == "yaml"]

    assert set(parse_settings(shown).clusters) == {"main"}


def test_every_command_with_its_options() -> None:
    table = rows(section(OPERATOR, "Commands"), "command")

    assert {codes(row[0])[0] for row in table} == set(main.commands)
    for row in table:
        command = main.commands[codes(row[0])[0]]
        options = {name for one in command.params for name in one.opts if name.startswith("--")}
        assert set(re.findall(r"--[a-z-]+", row[1])) == options, row[0]


def test_every_path_over_http() -> None:
    stated = {codes(row[0])[0] for row in rows(section(OPERATOR, "Over HTTP"), "path")}

    assert stated == texts(r'add_get\("([^"]+)"', "web")


def test_every_metric() -> None:
    table = rows(section(OPERATOR, "Metrics"), "metric")
    kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    known = {
        f"{metric._name}_total" if type(metric) is Counter else metric._name: (kinds[type(metric)], metric._labelnames)
        for metric in vars(Metrics("1")).values()
        if type(metric) in kinds
    }

    assert {codes(row[0])[0]: (row[1], tuple(codes(row[2]))) for row in table} == known


def test_rights_are_those_of_the_chart() -> None:
    stated = {
        resource: set(row[1].split(", "))
        for row in rows(section(OPERATOR, "Rights"), "resource")
        for resource in codes(row[0])
    }
    chart = find("operator")
    items = documents(render(chart, [chart.path / "ci" / "cluster-wide-values.yaml"]))
    [role] = [item for item in items if item["kind"] == "ClusterRole"]

    assert stated == {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}


# What people type


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    return Definitions([write_definitions(tmp_path_factory.mktemp("definitions"))])


def patches() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for page in (HOWTO / "scale-consumers.md", HOWTO / "drive-the-migration-with-kubectl.md"):
        for line in lines(page):
            if line.words[:2] == ["kubectl", "patch"]:
                kind = line.words[2].partition("/")[0]
                yield line.text, kind, json.loads(flags(line.words[2:])["patch"][0])


@pytest.mark.parametrize(
    ("text", "kind", "patch"), list(patches()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_patch_is_one_of_fields_that_there_are(
    text: str, kind: str, patch: dict[str, Any], definitions: Definitions
) -> None:
    name = {"kafkaconsumer": "KafkaConsumer", "cutover": "Cutover"}[kind]
    # What a patch does not say is there already.
    whole = {
        "KafkaConsumer": {"targetRef": {"name": "x"}, "group": "x", "topics": ["x"]},
        "Cutover": {"service": "x"},
    }[name]
    spec = {key: value for key, value in {**whole, **patch["spec"]}.items() if value is not None}
    item = {"apiVersion": "taskbridge.dev/v1alpha1", "kind": name, "metadata": {"name": "x"}, "spec": spec}

    assert definitions.troubles([item]) == []


@pytest.mark.parametrize("kind", PAGES)
def test_the_example_is_one(kind: str, definitions: Definitions) -> None:
    [shown] = [yaml.safe_load(block.text) for block in blocks(PAGES[kind]) if block.language == "yaml"]

    assert shown["kind"] == kind
    assert definitions.troubles([shown]) == []


def test_every_value_that_a_page_names_exists() -> None:
    charts = {
        name: yaml.safe_load((find(name).path / "values.yaml").read_text()) for name in ("operator", "shop", "kafka")
    }
    for page in (HOWTO / "install-the-operator.md", HOWTO / "scale-consumers.md"):
        for name in re.findall(
            r"`((?:networkPolicy|watch|requestedBy|rbac|crds|users|operator|monitoring)[\w.]+)`", text(page)
        ):
            assert any(there(values, name) for values in charts.values()), name


def text(page: Path) -> str:
    return page.read_text()


def there(values: Any, name: str) -> bool:
    for key in name.split("."):
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True
