"""Tasks as the source declares them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from taskbridge.scan.constants import NOT_CONSTANT, value
from taskbridge.scan.facts import Parameter, Place, Task
from taskbridge.scan.modules import Function, Module, Project

_DECORATORS = frozenset({"celery.shared_task", "celery.task", "celery.task.task", "celery.app.shared_task"})
_BASES = frozenset({"celery.Task", "celery.app.task.Task", "celery.task.Task", "celery.app.base.Task"})


def tasks(project: Project) -> Iterator[Task]:
    """Yield the tasks that decorators and classes of a project declare, file by file."""
    for module in project.modules.values():
        for qualname, node in module.definitions.items():
            if isinstance(node, ast.ClassDef):
                yield from _class_task(project, module, node)
            elif "." not in qualname:
                for decorator in node.decorator_list:
                    if is_task_decorator(project, module, decorator):
                        yield _function_task(module, node, decorator)
                        break


def is_task_decorator(project: Project, module: Module, decorator: ast.expr) -> bool:
    """Return whether a decorator makes a function a Celery task: `shared_task`, or `task` of something like an app."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    dotted = project.dotted(module, called)
    if dotted in _DECORATORS:
        return True
    owner, _, last = dotted.rpartition(".")
    if last != "task" or not owner:
        return False
    name = owner.rpartition(".")[2].lower()
    found = project.resolve(owner)
    home = project.modules.get(found.rpartition(".")[0])
    made = home.names.get(found.rpartition(".")[2]) if home is not None else None
    if home is not None and isinstance(made, ast.Call) and project.dotted(home, made.func).endswith("Celery"):
        return True
    return "app" in name or "celery" in name


def parameters(node: Function, *, bound: bool) -> tuple[Parameter, ...]:
    """Return a function's arguments by name, the first one left out when it is `self`."""
    positional = [*node.args.posonlyargs, *node.args.args]
    required = len(positional) - len(node.args.defaults)
    found = [Parameter(argument.arg, index < required) for index, argument in enumerate(positional)]
    found.extend(
        Parameter(argument.arg, default is None)
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    )
    return tuple(found[1:] if bound and positional else found)


def _function_task(module: Module, node: Function, decorator: ast.expr) -> Task:
    options = _options(module, decorator.keywords if isinstance(decorator, ast.Call) else [])
    name = options.pop("name", None)
    if "base" in options:
        options["base"] = ast.unparse(next(k.value for k in _keywords(decorator) if k.arg == "base"))
    code = f"{module.name}.{node.name}"
    return Task(
        name=name if isinstance(name, str) else code,
        code=code,
        place=Place(module.file, node.lineno),
        parameters=parameters(node, bound=options.get("bind") is True),
        options=options,
        queue=options["queue"] if isinstance(options.get("queue"), str) else "",
    )


def _class_task(project: Project, module: Module, node: ast.ClassDef) -> Iterator[Task]:
    if not any(project.dotted(module, base) in _BASES for base in node.bases):
        return
    run = module.definitions.get(f"{node.name}.run")
    if not isinstance(run, Function):
        return
    assigned = {
        target.id: statement.value
        for statement in node.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    options = _options(module, [ast.keyword(name, given) for name, given in assigned.items()])
    name = options.pop("name", None)
    code = f"{module.name}.{node.name}"
    yield Task(
        name=name if isinstance(name, str) else code,
        code=f"{code}.run",
        place=Place(module.file, node.lineno),
        parameters=parameters(run, bound=True),
        options={"bind": True, **options},
        queue=options["queue"] if isinstance(options.get("queue"), str) else "",
    )


def _keywords(decorator: ast.expr) -> list[ast.keyword]:
    return decorator.keywords if isinstance(decorator, ast.Call) else []


def _options(module: Module, keywords: list[ast.keyword]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in keywords:
        if item.arg is not None:
            constant = value(item.value, module.names)
            found[item.arg] = ast.unparse(item.value) if constant is NOT_CONSTANT else constant
    return {name: given for name, given in found.items() if given not in (None, False) or name == "name"}
