"""The source of a project: its files, parsed, and what a name in one of them stands for."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from taskbridge.scan.facts import Unreadable

SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "tests", "test", "testing", "migrations"})
"""Folders that are not read: what is dispatched there is not what the running system dispatches."""

HOPS = 8
"""How many re-exports are followed from a name to what it stands for."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Module:
    """One parsed file. `definitions` are functions, classes, and methods as `Class.method`."""

    name: str
    file: str
    tree: ast.Module
    is_package: bool
    imports: dict[str, str] = field(default_factory=dict)
    names: dict[str, ast.expr] = field(default_factory=dict)
    definitions: dict[str, Function | ast.ClassDef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        local = alias.asname or alias.name.partition(".")[0]
                        self.imports[local] = alias.name if alias.asname else local
                case ast.ImportFrom(module=module, names=names, level=level):
                    base = self._base(level, module)
                    for alias in names:
                        self.imports[alias.asname or alias.name] = f"{base}.{alias.name}" if base else alias.name
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.names[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.names[name] = value
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.definitions[node.name] = node
                case ast.ClassDef():
                    self.definitions[node.name] = node
                    for inner in node.body:
                        if isinstance(inner, Function):
                            self.definitions[f"{node.name}.{inner.name}"] = inner

    def _base(self, level: int, module: str | None) -> str:
        if not level:
            return module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - level + (1 if self.is_package else 0)]
        return ".".join([*parts, module] if module else parts)


class Project:
    """All modules that were read."""

    def __init__(self, modules: Iterable[Module], unreadable: Iterable[Unreadable] = ()) -> None:
        self.modules = {module.name: module for module in modules}
        self.unreadable = tuple(unreadable)

    def dotted(self, module: Module, node: ast.expr) -> str:
        """Return the full name that an expression of names and attributes has, or an empty string."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        root = node.id
        if root in module.definitions or (root in module.names and root not in module.imports):
            root = f"{module.name}.{root}"
        else:
            root = module.imports.get(root, root)
        return self.resolve(".".join([root, *reversed(parts)]))

    def resolve(self, dotted: str) -> str:
        """Return the name under which something is defined, whichever modules hand it on."""
        for _ in range(HOPS):
            module, rest = self._split(dotted)
            if module is None or not rest:
                return dotted
            first, _, further = rest.partition(".")
            if first in module.definitions or first in module.names or first not in module.imports:
                return dotted
            target = module.imports[first]
            following = f"{target}.{further}" if further else target
            if following == dotted:
                return dotted
            dotted = following
        return dotted

    def find(self, dotted: str) -> tuple[Module, Function | ast.ClassDef] | None:
        """Return the definition of a full name with its module, or None when it is not part of what was read."""
        module, rest = self._split(dotted)
        node = module.definitions.get(rest) if module is not None else None
        return (module, node) if module is not None and node is not None else None

    def _split(self, dotted: str) -> tuple[Module | None, str]:
        head, tail = dotted, ""
        while head:
            if head in self.modules:
                return self.modules[head], tail
            head, _, last = head.rpartition(".")
            tail = f"{last}.{tail}" if tail else last
        return None, ""


def python_files(roots: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (root, file) for the Python files below the roots, in order, but for those of tests and migrations."""
    for root in roots:
        if root.is_file():
            yield root.parent, root
            continue
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(
                name
                for name in folders
                if name not in SKIPPED and not name.startswith(".") and not (Path(folder, name) / "pyvenv.cfg").exists()
            )
            for name in sorted(files):
                if name.endswith(".py") and not name.startswith("test_") and name != "conftest.py":
                    yield root, Path(folder, name)


def read(roots: Iterable[Path], progress: Callable[[int, int], None] | None = None) -> Project:
    """
    Return the project below `roots`, each a folder or a file.

    What cannot be read or parsed is kept as unreadable. `progress` is told how many files of how many are done.
    """
    found: dict[Path, Path] = {}
    for root, path in python_files(roots):
        found.setdefault(path.resolve(), root.resolve())
    modules: list[Module] = []
    unreadable: list[Unreadable] = []
    for number, (path, root) in enumerate(found.items(), 1):
        shown = shown_path(path)
        try:
            tree = ast.parse(path.read_bytes(), filename=str(path))
            modules.append(Module(module_name(path, root), shown, tree, path.name == "__init__.py"))
        except OSError as error:
            unreadable.append(Unreadable(shown, error.strerror or str(error)))
        except SyntaxError as error:
            unreadable.append(Unreadable(shown, f"line {error.lineno}: {error.msg}"))
        except (ValueError, RecursionError) as error:
            unreadable.append(Unreadable(shown, str(error)))
        if progress is not None:
            progress(number, len(found))
    return Project(modules, unreadable)


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name by which a file is imported: from the outermost folder that is a package."""
    top = path.parent
    while (top / "__init__.py").exists():
        top = top.parent
    # A root without `__init__.py` that is not itself a package is taken for a folder of the path.
    if top == path.parent and path.is_relative_to(root):
        top = root
    parts = list(path.relative_to(top).with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def shown_path(path: Path) -> str:
    """Return a path as people recognise it: relative to here, or to the folder that it is imported from."""
    here = Path.cwd()
    if path.is_relative_to(here) and "site-packages" not in path.parts:
        return str(path.relative_to(here))
    top = path.parent
    while (top / "__init__.py").exists():
        top = top.parent
    return str(path.relative_to(top)) if top != path.parent else str(path)
