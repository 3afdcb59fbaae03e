"""An image of one program, as an engine reads it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

from cluster.archive import write_image


def test_the_archive_names_what_it_holds(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_bytes(b"\x7fELF and so on")
    write_image(tmp_path / "image.tar", "example/hello:1", program)
    with tarfile.open(tmp_path / "image.tar") as tar:
        members = {name: file.read() for name in tar.getnames() if (file := tar.extractfile(name))}
    (manifest,) = json.loads(members["manifest.json"])
    assert manifest["RepoTags"] == ["example/hello:1"]
    raw = members[manifest["Config"]]
    assert manifest["Config"] == f"{hashlib.sha256(raw).hexdigest()}.json"
    config = json.loads(raw)
    assert config["config"]["Entrypoint"] == ["/hello"]
    assert config["config"]["User"] == "10001:10001"
    (layer,) = (members[name] for name in manifest["Layers"])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    (tmp_path / "layer.tar").write_bytes(layer)
    with tarfile.open(tmp_path / "layer.tar") as tar:
        entry = tar.getmember("hello")
        file = tar.extractfile(entry)
        assert file is not None
        assert (entry.mode, file.read()) == (0o755, program.read_bytes())


def test_the_same_program_gives_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_bytes(b"content")
    for name in ("one.tar", "two.tar"):
        write_image(tmp_path / name, "example/hello:1", program)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello", "one.tar", "two.tar"]
