"""What a task does beside returning a value, as far as its source shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from taskbridge.scan.facts import Place, Sight
from taskbridge.scan.modules import Function, Module, Project

Confidence = Literal["high", "medium", "low"]

DEPTH = 6
"""How many calls deep a task's code is followed through the project."""

SHOWN = 3
"""Places given as evidence of each kind."""

EXTERNAL = (
    "requests",
    "httpx",
    "urllib.request",
    "urllib3",
    "aiohttp",
    "http.client",
    "smtplib",
    "ftplib",
    "imaplib",
    "poplib",
    "paramiko",
    "boto3",
    "botocore",
    "google.cloud",
    "stripe",
    "twilio",
    "grpc",
    "elasticsearch",
    "socket",
    "subprocess",
    "os.system",
    "os.popen",
    "sh",
    "django.core.mail",
)
"""Modules and functions that talk to others."""

DATABASE = ("django.db", "sqlalchemy", "psycopg", "psycopg2")

WRITES = frozenset(
    {
        "save",
        "delete",
        "create",
        "update_or_create",
        "get_or_create",
        "bulk_create",
        "bulk_update",
        "select_for_update",
        "cursor",
        "execute",
        "executemany",
    }
)
"""Methods that write, or may, when they are a model's, a queryset's or a connection's."""

DISPATCH = frozenset({"delay", "apply_async", "send_task", "delay_on_commit", "apply_async_on_commit"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HARMLESS_CALLS = _words("""
    Exception KeyError LookupError RuntimeError TypeError ValueError abs all any bool bytes dict divmod
    enumerate filter float format frozenset getattr hasattr hash hex int isinstance issubclass iter len list
    map max min next oct ord pow range repr reversed round set slice sorted str sum tuple type zip
""")
HARMLESS_MODULES = _words("""
    base64 binascii bisect collections copy dataclasses datetime decimal difflib enum fractions functools
    hashlib heapq html itertools json math operator re statistics string struct textwrap unicodedata uuid zlib
""")
HARMLESS_METHODS = _words("""
    append capitalize count decode difference digest encode endswith extend format get hexdigest index insert
    intersection isdigit isoformat items join keys lower lstrip pop replace rsplit rstrip setdefault sort
    split splitlines startswith strip title total_seconds union upper values zfill
""")


LOGGING = _words("critical debug error exception getLogger info log warning")


@dataclass(frozen=True, slots=True)
class Effects:
    """The effect class that is suggested, how sure that is, why, and what was seen."""

    effects: Literal["pure", "db", "external", "opaque"]
    confidence: Confidence
    reason: str
    evidence: tuple[Sight, ...] = ()
    durable: tuple[Sight, ...] = ()


class EffectReader:
    """Follows calls through a project."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def of(self, code: str) -> Effects:
        """Return what the function of a task seems to do."""
        start = self._project.find(code)
        if start is None or isinstance(start[1], ast.ClassDef):
            return Effects("opaque", "low", "its source was not read")
        seen: set[str] = set()
        kinds: dict[str, list[tuple[int, Sight]]] = {}
        for depth, sight in self._follow(code, 0, seen):
            kinds.setdefault(sight.kind, []).append((depth, sight))
        durable = tuple(sight for _, sight in kinds.pop("durable", []))
        for kind, words in (("external", "talks to others"), ("db", "uses the database")):
            if kind in kinds:
                nearest = min(depth for depth, _ in kinds[kind])
                confidence: Confidence = "high" if not nearest else "medium"
                how = (
                    "itself"
                    if not nearest
                    else f"{nearest} calls deep"
                    if nearest > 1
                    else "in a function that it calls"
                )
                evidence = [
                    sight for name in ("external", "db") for _, sight in sorted(kinds.get(name, []), key=_near)[:SHOWN]
                ]
                return Effects(kind, confidence, f"{words}, {how}", tuple(evidence), durable)  # type: ignore[arg-type]
        if "dispatch" in kinds:
            sight = kinds["dispatch"][0][1]
            return Effects("opaque", "medium", "dispatches further tasks, and nothing else is seen", (sight,), durable)
        if "unknown" in kinds:
            sight = kinds["unknown"][0][1]
            return Effects("opaque", "low", f"calls {sight.text}, into which the scan cannot see", (sight,), durable)
        return Effects("pure", "medium", "calls only what is known to have no effect", (), durable)

    def _follow(self, code: str, depth: int, seen: set[str]) -> Iterator[tuple[int, Sight]]:
        found = self._project.find(code)
        if found is None or code in seen:
            return
        seen.add(code)
        module, node = found
        if isinstance(node, ast.ClassDef):
            return
        owner = code.rpartition(".")[0]
        for sight, callee in _sights(self._project, module, node, owner):
            if callee and depth < DEPTH:
                yield from self._follow(callee, depth + 1, seen)
            if sight is not None:
                yield depth, sight


def _near(item: tuple[int, Sight]) -> tuple[int, Place]:
    return item[0], item[1].place


def _sights(project: Project, module: Module, function: Function, owner: str) -> Iterator[tuple[Sight | None, str]]:
    """Yield what one function does by itself, and whom it calls in the project."""
    for node in (inner for statement in function.body for inner in ast.walk(statement)):
        place = Place(module.file, getattr(node, "lineno", function.lineno))
        match node:
            case ast.Attribute(attr="objects"):
                yield Sight("db", ast.unparse(node), place), ""
            case ast.Global() | ast.Nonlocal():
                yield Sight("unknown", "global", place), ""
            case ast.Assign(targets=[*_, ast.Attribute() | ast.Subscript()]):
                yield Sight("unknown", ast.unparse(node.targets[-1]), place), ""
            case ast.Call(func=called):
                yield from _call(project, module, node, called, place, owner)


def _call(
    project: Project, module: Module, node: ast.Call, called: ast.expr, place: Place, owner: str
) -> Iterator[tuple[Sight | None, str]]:
    dotted = project.dotted(module, called)
    method = called.attr if isinstance(called, ast.Attribute) else ""
    match called:
        case ast.Attribute(value=ast.Name(id="self" | "cls")):
            dotted = f"{owner}.{method}"
    text = ast.unparse(called)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    if _belongs(dotted, EXTERNAL):
        yield Sight("external", text, place), ""
    elif method in DISPATCH:
        yield Sight("dispatch", text, place), ""
    elif _belongs(dotted, DATABASE):
        if any(
            item.arg == "durable" and isinstance(item.value, ast.Constant) and item.value.value
            for item in node.keywords
        ):
            yield Sight("durable", text, place), ""
        yield Sight("db", text, place), ""
    elif project.find(dotted) is not None:
        found = project.find(dotted)
        constructor = f"{dotted}.__init__" if found is not None and isinstance(found[1], ast.ClassDef) else dotted
        yield None, constructor
    elif method in WRITES and not _belongs(dotted, ("django.core.cache",)):
        yield Sight("db", text, place), ""
    elif (
        dotted in HARMLESS_CALLS
        or dotted.partition(".")[0] in HARMLESS_MODULES
        or method in HARMLESS_METHODS
        or method in {"debug", "info", "warning", "error", "exception", "critical", "log", "getLogger"}
    ):
        return
    else:
        yield Sight("unknown", text, place), ""


def _belongs(dotted: str, roots: tuple[str, ...]) -> bool:
    return any(dotted == root or dotted.startswith(f"{root}.") for root in roots)
