"""Publishing that passes the bridge by: kombu and other clients used directly."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from taskbridge.scan.facts import Place, Sight
from taskbridge.scan.modules import Module, Project

_MADE_BY_NAME = frozenset({"kombu.Producer", "kombu.messaging.Producer", "kombu.pools.producers"})
_MADE_BY_METHOD = frozenset({"Producer", "producer_or_acquire", "producer_for", "SimpleQueue", "SimpleBuffer"})
_POOLS = frozenset({"producer_pool", "producers"})
_PIKA = frozenset({"basic_publish"})


class Publishers:
    """Finds what one module publishes without Celery's task sender."""

    def __init__(self, project: Project, module: Module) -> None:
        self._project = project
        self._module = module
        self._uses_kombu = any(name.split(".")[0] == "kombu" for name in module.imports.values())

    def found(self) -> Iterator[Sight]:
        """Yield each publish by such a producer; where none is seen, the making of the producer itself."""
        producers = {
            name: node
            for node in ast.walk(self._module.tree)
            for name, made in _bindings(node)
            if self._makes_producer(made)
        }
        published: set[str] = set()
        for node in ast.walk(self._module.tree):
            match node:
                case ast.Call(func=ast.Attribute(attr="publish" | "put", value=owner)) if self._is_producer(
                    owner, producers
                ):
                    published.add(ast.unparse(owner))
                    yield self._sight(node)
                case ast.Call(func=ast.Attribute(attr=method)) if method in _PIKA:
                    yield self._sight(node)
        made = [
            node for node in ast.walk(self._module.tree) if isinstance(node, ast.Call) and self._makes_producer(node)
        ]
        # A producer that is made and published with is one thing to report, not two.
        if made and not published:
            for node in made:
                yield self._sight(node)

    def _is_producer(self, node: ast.expr, producers: dict[str, ast.AST]) -> bool:
        if isinstance(node, ast.Call):
            return self._makes_producer(node)
        text = ast.unparse(node)
        return text in producers or (self._uses_kombu and "producer" in text.rpartition(".")[2].lower())

    def _makes_producer(self, node: ast.expr) -> bool:
        match node:
            case ast.Call(func=function):
                dotted = self._project.dotted(self._module, function)
                if dotted in _MADE_BY_NAME:
                    return True
                if isinstance(function, ast.Attribute) and function.attr == "acquire":
                    return self._is_pool(function.value)
                return isinstance(function, ast.Attribute) and function.attr in _MADE_BY_METHOD
        return False

    def _is_pool(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Subscript):
            return self._project.dotted(self._module, node.value) == "kombu.pools.producers"
        return isinstance(node, ast.Attribute) and node.attr in _POOLS

    def _sight(self, node: ast.expr) -> Sight:
        text = ast.unparse(node)
        place = Place(self._module.file, node.lineno)
        return Sight("past_bridge", text if len(text) <= 80 else f"{text[:77]}...", place)


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, value) of what a statement binds: assignments and `with … as name`."""
    match node:
        case ast.Assign(targets=targets, value=given):
            for target in targets:
                yield ast.unparse(target), given
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if item.optional_vars is not None:
                    yield ast.unparse(item.optional_vars), item.context_expr
