"""Everything in a project's source that has to do with Celery: dispatches, features, ways past the bridge."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from taskbridge.scan.constants import seconds, value
from taskbridge.scan.facts import Call, Place, Sight, Where
from taskbridge.scan.modules import Function, Module, Project
from taskbridge.scan.publishers import Publishers

DISPATCHES = frozenset({"delay", "apply_async", "delay_on_commit", "apply_async_on_commit"})
"""Methods that dispatch: where it is not known of what, it is still a task's."""

SIGNATURES = frozenset({"s", "si", "signature", "subtask"})

OF_TASKS = SIGNATURES | {"apply", "map", "starmap", "chunks"}
"""Methods that other objects have as well: they count only where the object is known to be a task."""

CANVAS = frozenset(
    f"celery.{prefix}{name}" for prefix in ("", "canvas.") for name in ("chain", "group", "chord", "xmap", "xstarmap")
)

OWN_METHODS = {
    "retry": "retry",
    "replace": "replace",
    "add_to_chord": "add_to_chord",
    "update_state": "update_state",
}
"""Methods of a bound task, and the feature that each is."""

CONSUMER_SIGNALS = frozenset(
    {
        "worker_ready",
        "worker_shutdown",
        "worker_shutting_down",
        "celeryd_init",
        "celeryd_after_setup",
        "heartbeat_sent",
        "eventlet_pool_started",
    }
)
"""Signals that belong to Celery's consumer, which the Kafka worker does not have."""


@dataclass(slots=True)
class Survey:
    """What was seen: calls, features by the function that uses them, and what concerns the project as a whole."""

    calls: list[Call] = field(default_factory=list)
    uses: dict[str, list[Sight]] = field(default_factory=dict)
    sights: list[Sight] = field(default_factory=list)
    after_commit: set[str] = field(default_factory=set)
    in_transaction: set[str] = field(default_factory=set)


def survey(project: Project) -> Survey:
    """Return what the whole source shows; a call in a function that is run in a transaction is in that transaction."""
    found = Survey()
    for module in project.modules.values():
        _Walk(project, module, found).visit(module.tree)
        found.sights.extend(Publishers(project, module).found())
    found.calls = [replace(call, where=call.where | frozenset(_around(found, call.caller))) for call in found.calls]
    return found


def _around(found: Survey, caller: str) -> Iterator[Where]:
    if caller in found.after_commit:
        yield "on_commit"
    if caller in found.in_transaction:
        yield "transaction"


class _Walk(ast.NodeVisitor):
    """Reads one module."""

    def __init__(self, project: Project, module: Module, found: Survey) -> None:
        self._project = project
        self._module = module
        self._found = found
        self._scope: list[str] = []
        self._where: list[Where] = []
        self._called: set[int] = set()
        # Other objects have a method `revoke` as well.
        self._has_results = any(name.startswith("celery.result") for name in module.imports.values())

    @property
    def _caller(self) -> str:
        if not self._scope:
            return ""
        # A function within another is read as part of it; a method belongs to its class.
        is_class = isinstance(self._module.definitions.get(self._scope[0]), ast.ClassDef)
        return ".".join([self._module.name, *self._scope[: 2 if is_class else 1]])

    def _place(self, node: ast.expr | ast.stmt) -> Place:
        return Place(self._module.file, node.lineno)

    def _use(self, kind: str, node: ast.expr) -> None:
        text = ast.unparse(node)
        sight = Sight(kind, text if len(text) <= 80 else f"{text[:77]}...", self._place(node))
        self._found.uses.setdefault(self._caller, []).append(sight)

    @contextmanager
    def _in(self, *where: Where) -> Iterator[None]:
        self._where.extend(where)
        try:
            yield
        finally:
            del self._where[len(self._where) - len(where) :]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def visit_FunctionDef(self, node: Function) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        outer, self._where = self._where, []
        self._scope.append(node.name)
        if any(self._is_atomic(decorator) for decorator in node.decorator_list):
            self._where.append("transaction")
        for part in [*node.args.defaults, *(item for item in node.args.kw_defaults if item), *node.body]:
            self.visit(part)
        self._scope.pop()
        self._where = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def _visit_loop(self, node: ast.AST) -> None:
        with self._in("loop"):
            self.generic_visit(node)

    visit_While = visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _visit_loop  # noqa: N815

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        with self._in("loop"):
            for part in [*node.body, *node.orelse]:
                self.visit(part)

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
        atomic = any(self._is_atomic(item.context_expr) for item in node.items)
        with self._in(*(("transaction",) if atomic else ())):
            for part in node.body:
                self.visit(part)

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_Subscript(self, node: ast.Subscript) -> None:
        match node.value:
            case ast.Attribute(attr="steps") if value(node.slice, self._module.names) in {"worker", "consumer"}:
                self._found.sights.append(Sight("worker_step", ast.unparse(node), self._place(node)))
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "celery.signals":
            for alias in node.names:
                if alias.name in CONSUMER_SIGNALS:
                    self._found.sights.append(Sight("worker_signal", alias.name, self._place(node)))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in DISPATCHES and id(node) not in self._called:
            # Handed on to be called elsewhere, as to `on_commit` or `partial`.
            self._call(node, node, None)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        self._called.add(id(function))
        dotted = self._project.dotted(self._module, function)
        last = function.attr if isinstance(function, ast.Attribute) else dotted.rpartition(".")[2]
        if isinstance(function, ast.Attribute) and (last in DISPATCHES or last in OF_TASKS):
            self._call(function, node, node)
        elif last in {"send_task", "signature", "subtask"}:
            self._call_by_name(last, node)
        elif last == "set" and isinstance(function, ast.Attribute):
            self._options_of_signature(function, node)
        if last == "signature" and isinstance(function, ast.Attribute):
            self._call_by_name(last, node)
        self._features(function, dotted, last, node)
        if self._project.dotted(self._module, function).endswith("transaction.on_commit"):
            self._found.after_commit.update(self._functions_in(node.args))
            with self._in("on_commit"):
                self.generic_visit(node)
            return
        if "transaction" in self._where and dotted and last not in DISPATCHES:
            self._found.in_transaction.add(dotted)
        self.generic_visit(node)

    def _functions_in(self, arguments: list[ast.expr]) -> Iterator[str]:
        for argument in arguments:
            for node in ast.walk(argument):
                if isinstance(node, ast.Name | ast.Attribute):
                    dotted = self._project.dotted(self._module, node)
                    if dotted and self._project.find(dotted) is not None:
                        yield dotted

    def _features(self, function: ast.expr, dotted: str, last: str, node: ast.Call) -> None:
        match function:
            case ast.Attribute(value=ast.Name(id="self"), attr=method) if method in OWN_METHODS:
                self._use(OWN_METHODS[method], node)
        if dotted in CANVAS:
            self._use("canvas", node)
        elif dotted == "celery.exceptions.Reject":
            self._use("reject", node)
        elif self._is_control(dotted) or (last == "revoke" and self._has_results):
            self._use("control", node)
        elif self._is_atomic(node) and any(
            item.arg == "durable" and value(item.value, self._module.names) is True for item in node.keywords
        ):
            self._use("durable_atomic", node)

    def _is_control(self, dotted: str) -> bool:
        owner, _, _ = dotted.rpartition(".")
        app, _, control = owner.rpartition(".")
        name = app.rpartition(".")[2].lower()
        return control == "control" and ("app" in name or "celery" in name)

    def _is_atomic(self, node: ast.expr) -> bool:
        called = node.func if isinstance(node, ast.Call) else node
        dotted = self._project.dotted(self._module, called)
        return dotted.endswith("transaction.atomic") or dotted in {"django.db.atomic", "transaction.atomic"}

    def _call(self, function: ast.Attribute, node: ast.expr, call: ast.Call | None) -> None:
        target = self._project.dotted(self._module, function.value)
        if isinstance(function.value, ast.Name) and function.value.id == "self":
            target = self._caller
        elif isinstance(function.value, ast.Call):
            # Of a signature or a canvas made on the spot, whose parts are found by themselves.
            target = ""
        self._add(target, function.attr, node, call)

    def _call_by_name(self, how: str, node: ast.Call) -> None:
        given = node.args[0] if node.args else _keyword(node, "name")
        name = value(given, self._module.names) if given is not None else None
        if isinstance(name, str) and "." in name:
            self._add(name, how, node, node, by_name=True)

    def _options_of_signature(self, function: ast.Attribute, node: ast.Call) -> None:
        match function.value:
            case ast.Call(func=ast.Attribute(value=task, attr=how)) if how in SIGNATURES:
                options = frozenset(item.arg for item in node.keywords if item.arg)
                target = self._project.dotted(self._module, task)
                call = Call(target, how, self._place(node), caller=self._caller, options=options)
                self._found.calls.append(replace(call, where=frozenset(self._where), wait=self._wait(node)))

    def _add(self, target: str, how: str, node: ast.expr, call: ast.Call | None, *, by_name: bool = False) -> None:
        positional, keywords, options = 0, frozenset[str](), frozenset[str]()
        if call is not None:
            positional, keywords, options = _arguments(call, how, by_name=by_name)
        self._found.calls.append(
            Call(
                target=target,
                how=how,
                place=self._place(node),
                by_name=by_name,
                caller=self._caller,
                options=options,
                where=frozenset(self._where),
                positional=positional,
                keywords=keywords,
                wait=self._wait(call) if call is not None and (how in DISPATCHES or by_name) else None,
            )
        )

    def _wait(self, call: ast.Call) -> float | None:
        for name in ("countdown", "eta"):
            given = _keyword(call, name)
            if given is not None:
                return seconds(given, self._module.names)
        return None


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((item.value for item in call.keywords if item.arg == name), None)


def _arguments(call: ast.Call, how: str, *, by_name: bool) -> tuple[int, frozenset[str], frozenset[str]]:
    """Return the number of positional arguments, the names of the others, and the options of a dispatch."""
    named = frozenset(item.arg for item in call.keywords if item.arg)
    if how in {"delay", "delay_on_commit", "s", "si"}:
        return len(call.args), named, frozenset()
    first = 1 if by_name else 0
    args = _keyword(call, "args") or (call.args[first] if len(call.args) > first else None)
    kwargs = _keyword(call, "kwargs") or (call.args[first + 1] if len(call.args) > first + 1 else None)
    positional = len(args.elts) if isinstance(args, ast.Tuple | ast.List) else 0
    keywords = (
        frozenset(key.value for key in kwargs.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
        if isinstance(kwargs, ast.Dict)
        else frozenset()
    )
    return positional, keywords, named - {"args", "kwargs", "name"}
