"""What is asked of others who install the package, and what the tests run with."""

from __future__ import annotations

import re
import sys
import tomllib
from typing import Any

import celery
import django
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from taskbridge.contrib.django import wiring
from taskbridge.exceptions import ConfigurationError
from tests.documents import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [re.fullmatch(r"([a-z0-9.-]+)==([^\s;]+)", line) for line in lines if not line.startswith("#")]
    assert all(found), "a line of constraints.txt is not name==version"
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in found if pin}


def direct() -> list[Requirement]:
    return [Requirement(text) for group in [PROJECT["dependencies"], *EXTRAS.values()] for text in group]


@pytest.mark.parametrize("requirement", direct(), ids=str)
def test_every_direct_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert pins()[canonicalize_name(requirement.name)] in requirement.specifier


def test_constraints_name_no_place() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert "@" not in text
    assert list(pins()) == sorted(pins())


def test_the_package_asks_for_little_and_only_for_ranges() -> None:
    needed = {requirement.name: requirement for requirement in map(Requirement, PROJECT["dependencies"])}
    assert set(needed) == {"celery", "click", "confluent-kafka", "django", "rich"}
    assert not any(part.operator in {"==", "==="} for one in needed.values() for part in one.specifier)
    assert {"5.4.0", "5.7.0"} <= set(needed["celery"].specifier.filter(["5.3.6", "5.4.0", "5.7.0", "5.8.0"]))
    assert "5.8.0" not in needed["celery"].specifier
    assert "4.2" in needed["django"].specifier
    assert PROJECT["requires-python"] == ">=3.11"


def test_ranges_and_the_check_at_install_agree() -> None:
    needed = {requirement.name: requirement.specifier for requirement in map(Requirement, PROJECT["dependencies"])}
    oldest, newest = wiring.OLDEST["Celery"], wiring.CELERY_BELOW
    assert str(needed["celery"]) in {f"<{_text(newest)},>={_text(oldest)}", f">={_text(oldest)},<{_text(newest)}"}
    assert str(needed["django"]) == f">={_text(wiring.OLDEST['Django'])}"
    assert PROJECT["requires-python"] == f">={_text(wiring.OLDEST['Python'])}"


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def test_the_versions_under_test_are_supported() -> None:
    wiring.check_versions()


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ("5.3.6", "taskbridge needs Celery 5.4 or later, and this is 5.3"),
        (
            "5.8.0rc1",
            "this version of taskbridge supports Celery below 5.8, and this is 5.8: upgrade taskbridge, or pin Celery",
        ),
        (
            "6.0.0",
            "this version of taskbridge supports Celery below 5.8, and this is 6.0: upgrade taskbridge, or pin Celery",
        ),
    ],
)
def test_celery_outside_the_range_is_refused(monkeypatch: pytest.MonkeyPatch, found: str, sentence: str) -> None:
    monkeypatch.setattr(celery, "__version__", found)
    with pytest.raises(ConfigurationError) as refused:
        wiring.check_versions()
    assert str(refused.value) == sentence


def test_an_old_django_or_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(django, "VERSION", (4, 1, 13, "final", 0))
        with pytest.raises(ConfigurationError, match=r"^taskbridge needs Django 4\.2 or later, and this is 4\.1$"):
            wiring.check_versions()
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    with pytest.raises(ConfigurationError, match=r"^taskbridge needs Python 3\.11 or later, and this is 3\.10$"):
        wiring.check_versions()


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "discussions" / "dependencies.md").read_text()
    assert {requirement.name for requirement in direct()} <= set(re.findall(r"^\| `([^`]+)` \| \S", text, re.MULTILINE))
