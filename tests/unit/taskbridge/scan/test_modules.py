from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from taskbridge.scan import Project, read
from taskbridge.scan.modules import module_name

Write = Callable[[dict[str, str]], Project]


def test_files_are_named_as_they_are_imported(project: Write, tmp_path: Path) -> None:
    found = project({"shop/orders/tasks.py": "", "loose.py": ""})
    assert set(found.modules) == {"shop", "shop.orders", "shop.orders.tasks", "loose"}
    # Read from within, the names stay what they are.
    assert set(read([tmp_path / "shop" / "orders"]).modules) == {"shop.orders", "shop.orders.tasks"}
    assert module_name(tmp_path / "shop" / "orders" / "tasks.py", tmp_path) == "shop.orders.tasks"


def test_tests_migrations_and_environments_are_left_out(tmp_path: Path) -> None:
    for name in (
        "a.py",
        "tests/b.py",
        "test_c.py",
        "conftest.py",
        "x/migrations/0001.py",
        ".hidden/d.py",
        "v/lib/e.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "v" / "pyvenv.cfg").write_text("")
    assert set(read([tmp_path]).modules) == {"a"}


def test_what_cannot_be_read_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("x = 1")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "nowhere.py").symlink_to(tmp_path / "gone")
    seen: list[tuple[int, int]] = []
    found = read([tmp_path], lambda done, total: seen.append((done, total)))
    assert set(found.modules) == {"good"}
    reasons = {Path(item.file).name: item.reason for item in found.unreadable}
    assert set(reasons) == {"broken.py", "binary.py", "gone"}
    assert reasons["broken.py"].startswith("line 1: ")
    assert reasons["gone"] == "No such file or directory"
    assert seen[-1] == (4, 4)


@pytest.mark.parametrize(
    ("text", "expression", "dotted"),
    [
        ("from shop import services", "services.pay", "shop.services.pay"),
        ("from shop.services import pay as p", "p", "shop.services.pay"),
        ("from .services import pay", "pay", "shop.services.pay"),
        ("from . import services", "services.pay", "shop.services.pay"),
        ("from shop import pay", "pay", "shop.services.pay"),
        ("import shop.services", "shop.services.pay", "shop.services.pay"),
        ("from elsewhere import thing", "thing.x", "elsewhere.thing.x"),
        ("def local(): ...", "local", "shop.views.local"),
        ("", "f().x", ""),
        ("from shop.circle import around", "around", "shop.circle.around"),
    ],
)
def test_names_are_followed_to_where_they_are_defined(project: Write, text: str, expression: str, dotted: str) -> None:
    found = project(
        {
            "shop/__init__.py": "from shop.services import pay",
            "shop/services.py": "def pay(): ...",
            "shop/circle.py": "from shop.circle import around",
            "shop/views.py": text,
        }
    )
    node = ast.parse(expression, mode="eval").body
    assert found.dotted(found.modules["shop.views"], node) == dotted
