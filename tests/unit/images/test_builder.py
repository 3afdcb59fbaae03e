from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import taskbridge
from images import base, builder
from images.cli import main
from images.errors import BuildFailedError, ImagesError, MissingToolError
from images.recipes import RECIPES, choose

Program = Callable[[str, str], Path]

REDIS = RECIPES["redis"]

# Stands in for buildah: remembers its arguments, has what it has built, and writes archives.
BUILDAH = """
echo "$*" >> "$0.calls"
for word in "$@"; do
    case $word in
    images) grep -q -- "--tag $(for last in "$@"; do :; done; echo "$last") " "$0.calls"; exit ;;
    bud) echo sha256:1 ;;
    docker-archive:*) path=${word#docker-archive:}; echo "$word" > "${path%%:*}" ;;
    esac
done
"""
DEBOOTSTRAP = """
for tree in "$@"; do :; done
mkdir -p "$tree/usr/sbin" "$tree/etc/dpkg/dpkg.cfg.d" "$tree/usr/share/doc/one" "$tree/var/log" "$tree/proc"
touch "$tree/usr/share/doc/one/copyright" "$tree/usr/share/doc/one/manual" "$tree/var/log/bootstrap.log"
echo run >> "$0.runs"
"""


@pytest.fixture
def calls(program: Program, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of buildah's calls; every program is there."""
    program("debootstrap", DEBOOTSTRAP)
    program("unshare", 'shift; exec "$@"')
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    cache.mkdir(parents=True)
    return program("buildah", BUILDAH).with_name("buildah.calls")


def build(kind: str = "local") -> builder.Archive:
    return builder.build(REDIS, kind, lambda _line: None)


def test_an_image_is_built_once(calls: Path) -> None:
    archive = build()
    first = calls.read_text()

    assert build() == archive
    assert calls.read_text() == first
    assert archive.path.read_text() == f"docker-archive:{_draft(first)}:{archive.reference}\n"
    assert archive.reference == f"taskbridge/redis:{archive.path.parent.name.removeprefix('image-redis-')}"
    assert builder.described(REDIS, "local") == archive


def _draft(text: str) -> str:
    return next(word for word in text.split() if word.startswith("docker-archive:")).split(":")[1]


def test_the_local_base_is_made_once_for_all(calls: Path, cache: Path) -> None:
    build()
    builder.build(RECIPES["postgres"], "local", lambda _line: None)
    builds = [line for line in calls.read_text().splitlines() if " bud " in line]

    assert calls.with_name("debootstrap.runs").read_text() == "run\n"
    assert len(builds) == 3
    assert f"--build-arg=BASE={base.identity(REDIS, 'local')}" in builds[1]
    assert [path.name for path in next(iter(cache.glob("base-debian-*"))).iterdir() if path.name == "tree"] == []


def test_a_public_base_needs_no_debootstrap(calls: Path) -> None:
    build("public")
    (line,) = [line for line in calls.read_text().splitlines() if " bud " in line]

    assert not calls.with_name("debootstrap.runs").exists()
    assert "--build-arg=BASE=docker.io/library/debian:bookworm-" in line


@pytest.mark.usefixtures("calls")
def test_another_base_is_another_tag() -> None:
    assert build("public").reference != build("local").reference


def test_a_build_is_reproducible_and_apart_from_other_images(calls: Path, cache: Path) -> None:
    build()

    for line in calls.read_text().splitlines():
        assert f"--root {cache}/containers/storage --runroot {cache}/containers/run" in line
        if " bud " in line:
            assert "--timestamp=0" in line
            assert "--isolation=chroot" in line


def test_what_failed_is_told_and_leaves_nothing(calls: Path, cache: Path, program: Program) -> None:
    program("buildah", BUILDAH + 'case "$*" in *bud*redis*) echo "no space left on device" >&2; exit 125 ;; esac')

    with pytest.raises(BuildFailedError, match=r"could not be built: .*status 125(?s:.*)no space left on device"):
        build()

    assert not list(cache.glob("image-*"))
    assert not list(cache.glob("building-*"))


def test_an_image_tells_its_version_and_base(calls: Path) -> None:
    build()
    line = calls.read_text().splitlines()[-2]

    assert f"--label=org.opencontainers.image.version={taskbridge.__version__} " in line
    assert f"--label=org.opencontainers.image.base.name={base.identity(REDIS, 'local')} " in line


def test_secrets_are_there_for_the_build_only(calls: Path, cache: Path) -> None:
    build()

    line = next(line for line in calls.read_text().splitlines() if "--secret=id=pip.conf" in line)
    folder = Path(line.partition("--secret=id=pip.conf,src=")[2].split()[0]).parent
    assert folder.is_relative_to(cache)
    assert not folder.exists()


@pytest.mark.usefixtures("calls")
def test_the_oldest_archives_go(cache: Path) -> None:
    for number in range(5):
        folder = cache / f"image-redis-{number}"
        folder.mkdir()
        os.utime(folder, (number, number))
    (cache / "image-postgres-0").mkdir()

    archive = build()

    left = sorted(path.name for path in cache.glob("image-*"))
    assert left == sorted([archive.path.parent.name, "image-postgres-0", "image-redis-3", "image-redis-4"])


def test_prune_leaves_nothing_behind(calls: Path, cache: Path) -> None:
    archive = build()
    (cache / "containers" / "storage").mkdir(parents=True)
    (cache / "building-of-a-killed-build").mkdir()

    gone = builder.prune()

    assert archive.path.parent in gone
    assert "rmi --all --force" in calls.read_text()
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


@pytest.mark.usefixtures("calls")
def test_prune_leaves_what_is_another_tools(cache: Path) -> None:
    """The cluster's own images lie in the same folder, under locks that are not held here."""
    others = [cache / name for name in ("image-pause-1", "image-coredns-1", "making-image-probe-1", "making-probe-1")]
    ours = [
        cache / name for name in ("image-shop-1", "making-image-shop-1-x", "base-debian-1", "making-base-debian-1-x")
    ]
    for folder in others + ours:
        folder.mkdir()

    assert set(builder.prune()) == set(ours)
    assert all(folder.is_dir() for folder in others)


@pytest.mark.usefixtures("cache", "no_programs")
def test_without_buildah_the_remedy_is_named() -> None:
    with pytest.raises(MissingToolError, match=r"There is no `buildah` on the PATH.*`apt install buildah`"):
        build()


def test_a_local_base_needs_root(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(MissingToolError, match=r"run this as root, or build on the public base with `--base public`"):
        build()
    assert " bud " not in calls.read_text()


def test_an_unknown_image_is_refused() -> None:
    with pytest.raises(
        ImagesError, match=r"There is no image 'web': there are shop, operator, kafka, postgres, redis\."
    ):
        choose(("shop", "web"))


def test_each_image_is_chosen_once() -> None:
    assert [recipe.name for recipe in choose(("redis", "shop", "redis"))] == ["redis", "shop"]
    assert [recipe.name for recipe in choose(())] == list(RECIPES)


@pytest.mark.usefixtures("calls")
def test_the_command_prints_one_line_for_each() -> None:
    done = CliRunner().invoke(main, ["build", "redis", "postgres"])

    assert done.exit_code == 0, done.output
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["redis", "postgres"]
    for _, archive, reference in rows:
        assert Path(archive).is_file()
        assert reference.startswith("taskbridge/")


@pytest.mark.usefixtures("calls")
def test_the_command_prints_json() -> None:
    archive = build()

    done = CliRunner().invoke(main, ["build", "redis", "--json"])

    expected = {"name": "redis", "archive": str(archive.path), "reference": archive.reference, "size": archive.size}
    assert json.loads(done.stdout) == [expected]


@pytest.mark.usefixtures("calls")
def test_list_tells_what_is_built() -> None:
    build()

    lines = CliRunner().invoke(main, ["list"]).stdout.splitlines()
    rows = {row["name"]: row["size"] for row in json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)}

    assert len(lines) == len(RECIPES)
    assert "not built" in lines[0]
    assert "not built" not in lines[-1]
    assert rows["shop"] is None
    assert rows["redis"] > 0


@pytest.mark.usefixtures("cache")
def test_a_mistake_is_one_sentence() -> None:
    done = CliRunner().invoke(main, ["build", "web"])

    assert done.exit_code == 1
    assert done.stderr == "Error: There is no image 'web': there are shop, operator, kafka, postgres, redis.\n"
