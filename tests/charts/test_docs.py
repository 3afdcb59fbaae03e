"""What the pages about Kubernetes tell people to type exists: charts, flags, values, files, commands in pods."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from charts.errors import ChartsError
from charts.render import charts, find, render, tool
from tests.documents import ROOT, blocks, links, prose
from tests.unit.repo.test_commands import check as check_command

HOWTO = ROOT / "docs" / "howto"
PAGES = [
    HOWTO / "install.md",
    HOWTO / "upgrade-and-uninstall.md",
    HOWTO / "back-up.md",
    HOWTO / "publish-the-outbox-by-debezium.md",
    HOWTO / "rotate-credentials.md",
    HOWTO / "install-the-operator.md",
    HOWTO / "scale-consumers.md",
    HOWTO / "drive-the-migration-with-kubectl.md",
    ROOT / "docs" / "reference" / "charts.md",
    *(ROOT / "docs" / "reference" / f"{name}.md" for name in ("operator", "kafkaconsumer", "cutover")),
    ROOT / "k8s" / "README.md",
    *sorted((ROOT / "charts").glob("*/README.md")),
]

ELSEWHERE = {"base64", "curl", "docker", "export", "kind", "mvn", "openssl", "printf", "psql", "rm"}
"""Commands that stand beside helm and kubectl, and are not ours to check."""

KUBECTL = {
    "apply": {"filename", "namespace", "server-side", "kustomize", "force-conflicts"},
    "annotate": {"namespace", "overwrite", "selector"},
    "auth": {"namespace", "list", "as"},
    "create": {
        *("namespace", "filename", "from-literal", "from-file", "from-env-file", "from", "cert", "key"),
        *("dry-run", "output"),
    },
    "delete": {"namespace", "filename", "selector", "ignore-not-found", "wait"},
    "describe": {"namespace", "selector"},
    "events": {"namespace", "for"},
    "exec": {"namespace", "stdin", "tty", "container"},
    "get": {"namespace", "selector", "field-selector", "output", "all-namespaces", "watch"},
    "kustomize": {"load-restrictor"},
    "logs": {"namespace", "selector", "container", "follow", "all-containers", "prefix", "previous", "tail"},
    "patch": {"namespace", "subresource", "type", "patch"},
    "port-forward": {"namespace"},
    "rollout": {"namespace", "selector", "timeout"},
    "scale": {"namespace", "replicas", "selector"},
    "top": {"namespace", "selector"},
    "wait": {"namespace", "for", "timeout", "selector", "all"},
}
"""Long flags by command; short ones say nothing to whoever reads them for the first time."""

SWITCHES = {
    *("all", "all-containers", "all-namespaces", "atomic", "create-namespace", "follow", "force-conflicts"),
    *("ignore-not-found", "install", "keep-history", "logs", "overwrite", "prefix", "previous"),
    *("reset-then-reuse-values", "server-side", "stdin", "tty", "wait", "watch"),
}
"""Flags without a value, of both."""


@dataclass(frozen=True)
class Line:
    """One command of a page, without what it is piped into."""

    page: Path
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text}"


def lines(page: Path) -> Iterator[Line]:
    """Yield the commands in a page's blocks of shell and in its sentences, each part of a pipe by itself."""
    texts = re.findall(r"`((?:helm|kubectl) [^`\n…]+)`", prose(page))
    for block in blocks(page):
        if block.language in {"bash", ""}:
            # An indented block may be anything, so only what is plainly a command is taken for one.
            plain = r"[^#\s]" if block.language else r"(helm|kubectl|kind) "
            texts += [line for line in block.text.replace("\\\n", " ").splitlines() if re.match(plain, line.strip())]
    for text in texts:
        yield from (Line(page, part.strip()) for part in re.split(r" \| | && ", text))


def every() -> list[Line]:
    return [line for page in PAGES for line in lines(page)]


def flags(words: list[str]) -> dict[str, list[str]]:
    """Return the long flags of a command with their values; raise ValueError for a short one."""
    found: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if re.match(r"-[a-zA-Z]", word):
            raise ValueError(f"{word} is a short flag")
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name not in SWITCHES:
                value = next(rest)
            found.setdefault(name, []).append(value)
    return found


def operands(words: list[str]) -> list[str]:
    """Return what stands between the flags, up to `--`."""
    found = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if not word.startswith("--"):
            found.append(word)
        elif "=" not in word and word[2:] not in SWITCHES:
            next(rest)
    return found


@cache
def helm_flags(*command: str) -> set[str]:
    """Return the flags that helm itself says a command has."""
    done = subprocess.run([tool("helm"), *command, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"--([a-z][a-z0-9-]+)", done.stdout))


@pytest.mark.parametrize("line", every(), ids=str)
def test_commands_exist(line: Line) -> None:
    words = line.words[1:] if line.words[0] == "xargs" else line.words
    match words:
        case ["helm", "get" | "show" as command, what, *rest]:
            assert set(flags(rest)) <= helm_flags(command, what)
        case ["helm", command, *rest]:
            assert set(flags(rest)) <= helm_flags(command)
        case ["kubectl", command, *rest]:
            assert set(flags(rest)) <= KUBECTL[command]
            if "--" in rest:
                inner = rest[rest.index("--") + 1 :]
                if inner[0] in {"taskbridge", "python"}:
                    check_command(inner, whole=True)
        case ["python", "-m" | "manage.py", *_] | ["make", *_] | ["taskbridge", *_]:
            check_command(words, whole=True)
        case [name, *_]:
            assert name in ELSEWHERE, words


@pytest.mark.parametrize("line", every(), ids=str)
def test_files_exist(line: Line) -> None:
    if line.words[0] not in {"helm", "kubectl", "kind"}:
        return
    found = flags(line.words)
    for name in ("filename", "values", "config"):
        for value in found.get(name, []):
            assert value == "-" or value in written(line.page) or (ROOT / value).is_file(), value


def written(page: Path) -> set[str]:
    """Return the names of files whose content the page shows, by the directive above the block."""
    return {block.directive.removeprefix("file: ") for block in blocks(page) if block.directive.startswith("file: ")}


def releases() -> list[Line]:
    """Return the commands that install or upgrade one of our charts."""
    return [
        line
        for line in every()
        if line.words[:1] == ["helm"] and line.words[1] in {"install", "upgrade"} and chart_of(line)
    ]


def chart_of(line: Line) -> str:
    """Return the name of the chart that a command is about, or nothing when it is not one of ours."""
    return next((Path(word).name for word in operands(line.words) if word.startswith("charts/")), "")


def given(line: Line, folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of values and the single values that a release has by a command."""
    found = flags(line.words[2:])
    files = []
    for value in found.get("values", []):
        file = ROOT / value
        if value in written(line.page):
            file = folder / value
            file.write_text(shown(line.page, value))
        files.append(file)
    settings = found.get("set", [])
    if "reset-then-reuse-values" in found:
        name = operands(line.words[2:])[0]
        before = next(one for one in releases() if one.words[1] == "install" and operands(one.words[2:])[0] == name)
        kept, kept_settings = given(before, folder)
        return [*kept, *files], [*kept_settings, *settings]
    return files, settings


def rendered(line: Line, folder: Path) -> str:
    """Render a release as its command would, on a cluster that has Strimzi and Prometheus."""
    files, settings = given(line, folder)
    namespace = flags(line.words[2:]).get("namespace", ["default"])[0]
    release = operands(line.words[2:])[0]
    return render(find(chart_of(line)), files, settings=settings, namespace=namespace, release=release)


def shown(page: Path, name: str) -> str:
    return next(block.text for block in blocks(page) if block.directive == f"file: {name}")


@pytest.mark.parametrize("line", releases(), ids=str)
def test_releases_render_with_the_values_that_are_shown(line: Line, tmp_path: Path) -> None:
    assert any(yaml.safe_load_all(rendered(line, tmp_path)))


def test_the_pages_install_every_chart() -> None:
    assert {chart_of(line) for line in releases()} == {chart.name for chart in charts()}


@pytest.mark.parametrize("value", ["topics.prefxi=shop", "nothing.there=1"])
def test_a_value_that_does_not_exist_is_found(value: str, tmp_path: Path) -> None:
    with pytest.raises(ChartsError, match=r"(?i)additional propert"):
        rendered(Line(PAGES[0], f"helm install main charts/kafka --set {value}"), tmp_path)


@pytest.mark.parametrize(
    "text", ["helm install shop charts/shop --nampespace x", "kubectl get pods -n shop", "kubectl gte pods", "make tea"]
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    with pytest.raises((AssertionError, ValueError, KeyError, LookupError, click.ClickException)):
        test_commands_exist(Line(PAGES[0], text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_file_says_its_name_to_those_who_cannot_see_the_directive(page: Path) -> None:
    for name in written(page):
        if name.endswith(".yaml"):
            assert shown(page, name).startswith(f"# {name}\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if not link.startswith(("https://", "#")):
            assert (page.parent / link.partition("#")[0]).exists(), link
