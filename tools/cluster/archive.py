"""Images that hold one static program, written without a container engine."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

__all__ = ["write_image"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(target: Path, reference: str, program: Path, user: str = "10001:10001") -> None:
    """
    Write an archive, as `docker save` does, of an image with `program` in its root as the entry point.

    The same program gives the same bytes, and so the same image. Raises OSError.
    """
    layer = target.with_name(f"{target.name}.layer")
    try:
        with tarfile.open(layer, "w") as tar:
            entry = tarfile.TarInfo(program.name)
            entry.size = program.stat().st_size
            entry.mode = 0o755
            with program.open("rb") as content:
                tar.addfile(entry, content)
        with layer.open("rb") as content:
            diff = hashlib.file_digest(content, "sha256").hexdigest()
        config = json.dumps(
            {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": {"User": user, "Entrypoint": [f"/{program.name}"], "WorkingDir": "/"},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
            }
        ).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": [f"{diff}.tar"]}]).encode()
        with tarfile.open(target, "w") as tar:
            for path, raw in ((name, config), ("manifest.json", manifest)):
                entry = tarfile.TarInfo(path)
                entry.size = len(raw)
                tar.addfile(entry, io.BytesIO(raw))
            entry = tarfile.TarInfo(f"{diff}.tar")
            entry.size = layer.stat().st_size
            with layer.open("rb") as content:
                tar.addfile(entry, content)
    finally:
        layer.unlink(missing_ok=True)
