"""What the reference says is what the code says."""

from __future__ import annotations

import ast
from dataclasses import MISSING, Field, fields
from typing import Any, get_args

import click
import pytest

import taskbridge
from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.cli import COMMANDS, cli
from taskbridge.observation import CopyRow, CopyState, DispatchRoute, DispatchRow, Outcome, RunRow, Side
from taskbridge.record import REQUIRED_HEADERS, SANDBOX, Message, Stamp, encode
from taskbridge.settings import KafkaSettings, ServiceSettings, Settings
from taskbridge.worker.channel import Verdict
from taskbridge.worker.entry import Entry
from taskbridge.worker.letters import dead_letter, given_back
from taskbridge.worker.tracker import METADATA_LIMIT, PartitionTracker, decode_runs, with_busy
from tests.documents import ROOT, codes, rows, section

REFERENCE = ROOT / "docs" / "reference"


def default(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


@pytest.mark.parametrize(
    ("heading", "settings", "elsewhere"),
    [("TASKBRIDGE", Settings, {"kafka"}), ("Services", ServiceSettings, {"name"}), ("Of a task", TaskOptions, set())],
)
def test_every_setting_with_its_default(heading: str, settings: type[Any], elsewhere: set[str]) -> None:
    text = section(REFERENCE / "settings.md", heading)
    table = rows(text, "key") or rows(text, "option")
    documented = {codes(row[0])[0]: row[1] for row in table}
    known = {item.name: item for item in fields(settings) if item.name not in elsewhere}
    assert set(documented) == set(known)
    for name, item in known.items():
        if default(item) is MISSING:
            assert documented[name] == "required", name
        else:
            assert ast.literal_eval(codes(documented[name])[0]) == default(item), name


def test_every_public_name() -> None:
    table = rows(section(REFERENCE / "settings.md", "Names to import"), "name")
    assert {codes(row[0])[0] for row in table} == set(taskbridge.__all__)


def test_every_variable_with_its_default() -> None:
    table = rows(section(REFERENCE / "settings.md", "Environment"), "variable")
    documented = {codes(row[0])[0]: row[1] for row in table}
    known = {f"KAFKA_{item.name.upper()}": item.default for item in fields(KafkaSettings)}
    assert set(documented) == set(known)
    for name, value in known.items():
        assert documented[name] == ("required" if value is MISSING else f"`{value}`" if value else ""), name


def parameters(command: click.Command) -> set[str]:
    """Return a command's options, and its arguments as they are called in the documentation."""
    names = set()
    for parameter in command.params:
        names.update([parameter.name.upper()] if isinstance(parameter, click.Argument) else parameter.opts)
    return names


def test_every_option_of_the_command_itself() -> None:
    table = rows(section(REFERENCE / "cli.md", "Commands"), "option")
    assert {name for row in table for name in codes(row[0])} == parameters(cli) | {"-h", "--help"}


def command_of(name: str) -> click.Command:
    """Return a command by its name, after that of its group if it has one."""
    group, _, inner = name.partition(" ")
    command = cli.get_command(click.Context(cli), group)
    if inner:
        assert isinstance(command, click.Group)
        return command.commands[inner]
    assert command is not None
    return command


def every_command() -> list[str]:
    names = []
    for name in sorted(COMMANDS):
        command = command_of(name)
        inner = sorted(command.commands) if isinstance(command, click.Group) else []
        names.extend([name, *(f"{name} {one}" for one in inner)])
    return names


@pytest.mark.parametrize("name", every_command())
def test_every_command_with_its_options(name: str) -> None:
    text = section(REFERENCE / "cli.md", f"taskbridge {name}")
    command = command_of(name)
    table = rows(text, "option") or rows(text, "argument or option")
    assert {option for row in table for option in codes(row[0])} == parameters(command)
    assert "0" in [row[0] for row in rows(text, "status")]


@pytest.mark.parametrize("name", every_command())
def test_defaults_of_options(name: str) -> None:
    command = command_of(name)
    table = rows(section(REFERENCE / "cli.md", f"taskbridge {name}"), "option")
    shown = {codes(row[0])[0]: row[1].strip("`") for row in table}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.show_default and parameter.opts[0] in shown:
            assert shown[parameter.opts[0]] == str(parameter.default), parameter.opts


def message() -> Message:
    return Message("shop.orders.tasks.confirm", "an-id", b"[[], {}, {}]", "application/json", "utf-8", b"{}", b"{}")


def entry() -> Entry:
    record = encode(message(), "key", Stamp("kafka", 3, "host:1:ab", 7), "00-trace")
    return Entry(PartitionTracker(0), 0, 5, record.key, record.value, record.headers, message().task, 100)


def test_every_header() -> None:
    table = rows(section(REFERENCE / "record-format.md", "Records of a service"), "header")
    written = {name for name, _ in [*entry().headers, *given_back(entry()).headers, SANDBOX]}
    assert {codes(row[0])[0] for row in table} == written
    assert {codes(row[0])[0] for row in table if row[1] == "yes"} == set(REQUIRED_HEADERS)


def test_every_header_of_a_dead_letter() -> None:
    letter = dead_letter(entry(), Verdict(0, "dead", "malformed", "why", ""), "shop.orders", 1.0)
    table = rows(section(REFERENCE / "record-format.md", "Dead letters"), "header")
    assert {codes(row[0])[0] for row in table} == {name for name, _ in letter.headers if name.startswith("dlq-")}


def test_every_reason_for_a_dead_letter_is_in_the_code_and_explained() -> None:
    reasons = {codes(row[0])[0] for row in rows(section(REFERENCE / "record-format.md", "Dead letters"), "reason")}
    howto = ROOT / "docs" / "howto" / "when-something-fails.md"
    assert {codes(row[0])[0] for row in rows(section(howto, "Dead letters"), "reason")} == reasons
    code = "".join(path.read_text() for path in (ROOT / "bridge" / "taskbridge").rglob("*.py"))
    assert all(f'"{reason}"' in code for reason in reasons)


def test_the_example_of_commit_metadata() -> None:
    text = section(REFERENCE / "record-format.md", "Committed offsets")
    assert "    v=1;busy=0.42;beyond=3.1.40.2" in text
    assert decode_runs(100, "v=1;busy=0.42;beyond=3.1.40.2") == [(103, 104), (144, 146)]
    tracker = PartitionTracker(100)
    for offset in range(100, 146):
        tracker.fetched(offset)
    for offset in (103, 144, 145):
        tracker.finish(offset)
    assert tracker.watermark() == 100
    assert with_busy(tracker.metadata(), 0.42) == "v=1;busy=0.42;beyond=3.1.40.2"
    assert f"{METADATA_LIMIT:,} bytes" in text


@pytest.mark.parametrize(("kind", "row"), [("dispatch", DispatchRow), ("run", RunRow), ("copy", CopyRow)])
def test_every_field_of_an_observation(kind: str, row: type[Any]) -> None:
    table = rows(section(REFERENCE / "record-format.md", kind), "field")
    assert {name for line in table for name in codes(line[0])} == {item.name for item in fields(row)}


@pytest.mark.parametrize(
    ("kind", "field", "words"),
    [
        ("dispatch", "route", get_args(DispatchRoute)),
        ("dispatch", "copy", get_args(CopyState)),
        ("run", "side", get_args(Side)),
        ("run", "outcome", get_args(Outcome)),
    ],
)
def test_every_word_of_an_observation(kind: str, field: str, words: tuple[str, ...]) -> None:
    table = rows(section(REFERENCE / "record-format.md", kind), "field")
    meaning = next(line[1] for line in table if field in codes(line[0]))
    assert set(codes(meaning)) == set(words)
