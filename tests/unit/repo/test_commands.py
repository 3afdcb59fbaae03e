"""Every command that the documentation shows exists, with the options and arguments shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from taskbridge.cli import cli as taskbridge
from tests.documents import ROOT, blocks, documents, prose

OURS = ("taskbridge", "make", "python -m", "python manage.py", ".venv/bin/")
ELSEWHERE = {
    ".",
    "apt",
    "celery",
    "curl",
    "docker",
    "eval",
    "export",
    "helm",
    "kind",
    "kubectl",
    "mvn",
    "openssl",
    "pip",
    "printf",
    "pytest",
    "rm",
}
"""Commands not checked here, apart from what stands inside `eval "$(...)"`; helm and kubectl are in tests/charts."""

TOOLS = {
    "charts": "charts.__main__",
    "charts.readme": "charts.readme",
    "cluster": "cluster.cli",
    "crds": "crds.__main__",
    "demo": "demo.__main__",
    "devstack": "devstack.cli",
    "images": "images.cli",
    "lagscaler": "lagscaler.cli",
    "standin": "standin.__main__",
}
"""Where the command of each tool is, by what stands after `python -m`."""

DJANGO = {"migrate"}


def commands(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield command lines, and whether they were given to be typed (in a block) or mentioned (in a sentence)."""
    for block in blocks(path):
        if block.language in {"bash", ""}:
            for line in block.text.replace("\\\n", " ").splitlines():
                text = line.strip()
                if text and not text.startswith("#") and (block.language or text.startswith(OURS)):
                    yield text, True
    for text in re.findall(r"`([^`\n]+)`", prose(path)):
        # With an ellipsis it is an error that is quoted.
        if "…" not in text and text.startswith(tuple(f"{name} " for name in OURS)):
            yield text, False


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(path: Path) -> None:
    for text, whole in commands(path):
        try:
            check(shlex.split(text, comments=True), whole)
        except (click.ClickException, LookupError) as error:
            pytest.fail(f"{path.relative_to(ROOT)}: `{text}`: {error!r}")


def test_wrong_commands_are_found() -> None:
    for text in (
        "taskbridge stauts",
        "taskbridge cutover orders live --persent 10",
        "taskbridge worker",
        "make everything",
        "python -m devstack start",
        "python -m nowhere",
        "python manage.py nonsense",
        "unheard-of --of",
    ):
        with pytest.raises((click.ClickException, LookupError)):
            check(shlex.split(text), whole=True)


def check(words: list[str], whole: bool) -> None:
    """Raise ClickException or LookupError when a command is wrong; one that is only mentioned may lack arguments."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    match words:
        case ["taskbridge", *rest] | ["python", "-m", "taskbridge", *rest]:
            parse(taskbridge, rest, whole)
        case ["python", "-m", module, *rest] if module in TOOLS:
            parse(import_module(TOOLS[module]).main, rest, whole)
        case ["python", "-m", module, *_] if module.startswith("benchmarks."):
            exists(ROOT / f"{module.replace('.', '/')}.py")
        case ["python", "manage.py", name, *_]:
            if name not in DJANGO and not [*ROOT.glob(f"apps/shop/*/management/commands/{name}.py")]:
                raise LookupError(f"no management command {name}")
        case ["python", script, *_] if script.endswith(".py"):
            if not any(f"<!-- file: {script} -->" in path.read_text() for path in documents()):
                raise LookupError(f"no document shows {script}")
        case ["make", *rest]:
            for target in rest:
                if "=" not in target and target not in make_targets():
                    raise LookupError(f"no target {target}")
        case ["eval", substitution]:
            check(shlex.split(substitution.removeprefix("$(").removesuffix(")")), whole)
        case [tool, *_] if tool.startswith(".venv/bin/"):
            if tool != ".venv/bin/pre-commit":
                raise LookupError(f"nothing installs {tool}")
        case [name, *_] if name in ELSEWHERE:
            pass
        case _:
            raise LookupError(f"unknown command {words}")


def parse(command: click.Command, words: list[str], whole: bool) -> None:
    """Parse arguments as the command would, without running it."""
    context = command.make_context("command", list(words), resilient_parsing=not whole)
    if not isinstance(command, click.Group):
        return
    rest = [*context._protected_args, *context.args]
    if rest:
        name, inner, left = command.resolve_command(context, rest)
        if inner is None:
            raise LookupError(f"no command {name}")
        parse(inner, left, whole)
    elif whole and not command.invoke_without_command:
        raise LookupError("no command is named")


def exists(path: Path) -> None:
    if not path.is_file():
        raise LookupError(f"{path} does not exist")


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_phony_target_has_a_line_in_help() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == make_targets()
