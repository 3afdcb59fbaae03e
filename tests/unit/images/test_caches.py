from __future__ import annotations

from pathlib import Path
from threading import Barrier, Thread

import pytest

from images import caches


@pytest.mark.usefixtures("cache")
def test_a_folder_is_made_once(cache: Path) -> None:
    made: list[Path] = []
    target = caches.folder("thing", "key")

    def make(draft: Path) -> None:
        made.append(draft)
        (draft / "content").touch()

    assert caches.made_once(target, "thing", make) == target
    assert caches.made_once(target, "thing", make) == target
    assert len(made) == 1
    assert target.parent == cache
    assert (target / "content").exists()


def test_what_failed_leaves_nothing(cache: Path) -> None:
    def fail(draft: Path) -> None:
        (draft / "half").touch()
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        caches.made_once(caches.folder("thing", "key"), "thing", fail)

    assert [path.name for path in cache.iterdir()] == ["thing.lock"]


@pytest.mark.usefixtures("cache")
def test_two_at_once_make_it_once() -> None:
    barrier, made = Barrier(2), []

    def make(draft: Path) -> None:
        made.append(draft)

    def both() -> None:
        barrier.wait()
        caches.made_once(caches.folder("thing", "key"), "thing", make)

    threads = [Thread(target=both) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1


def test_the_cache_is_outside_of_every_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    assert caches.root() == Path.home() / ".cache" / "taskbridge"
