"""Folders that are made once."""

from pathlib import Path

import pytest

from crds.cache import folder_of, kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_other_inputs_have_another_folder() -> None:
    one = folder_of("things", [b"ab", b"c"])

    assert one == folder_of("things", [b"ab", b"c"])
    assert one != folder_of("things", [b"a", b"bc"])


def test_a_folder_is_made_once(cache: Path) -> None:
    made = []

    def make(target: Path) -> None:
        made.append(target)
        (target / "file").write_text("content")

    folder = kept(folder_of("things", [b"a"]), make, "things")
    assert kept(folder, make, "things") == folder
    assert (folder / "file").read_text() == "content"
    assert len(made) == 1
    assert {item.name for item in (cache / "taskbridge").iterdir()} == {folder.name, "things.lock"}


def test_nothing_is_left_of_a_folder_that_cannot_be_made(cache: Path) -> None:
    def fail(target: Path) -> None:
        (target / "half").write_text("")
        raise ValueError("no")

    folder = folder_of("things", [b"a"])
    with pytest.raises(ValueError, match="no"):
        kept(folder, fail, "things")

    assert not folder.exists()
    assert {item.name for item in (cache / "taskbridge").iterdir()} == {"things.lock"}
