"""The definitions of the Prometheus operator, as its Go module carries them."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from crds.cache import folder_of, kept
from crds.errors import CrdsError

__all__ = ["KINDS", "MODULE", "VERSION", "make_prometheus"]

MODULE = "github.com/prometheus-operator/prometheus-operator"
VERSION = "v0.86.1"
_GO = Path(__file__).parent / "go"
KINDS = ("podmonitors", "prometheusrules", "servicemonitors")


def make_prometheus(report: Callable[[str], None]) -> Path:
    """
    Return the folder with one YAML file per definition, fetching it first if need be.

    Raises CrdsError when Go is missing or the module cannot be had.
    """

    def make(target: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise CrdsError(
                "There is no `go` on the PATH, and the Prometheus operator's definitions come as a Go module: install "
                "Go (Debian, Ubuntu: `apt install golang-go`; macOS: `brew install go`)."
            )
        report(f"Fetching the Prometheus operator's definitions ({MODULE} {VERSION}, only this once) …")
        # In a copy of our module, whose go.sum says what the download must be, and which Go may write to.
        with tempfile.TemporaryDirectory(prefix="prometheus-crds-") as scratch:
            for name in ("go.mod", "go.sum"):
                shutil.copy(_GO / name, scratch)
            outcome = subprocess.run(
                [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"],
                capture_output=True,
                text=True,
                check=False,
                cwd=scratch,
                env={**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=mod"},
            )
        answer = json.loads(outcome.stdout or "{}")
        if outcome.returncode or "Dir" not in answer:
            raise CrdsError(
                f"Go could not fetch {MODULE} {VERSION}: check the network, or GOPROXY, and try again. It said: "
                f"{answer.get('Error') or outcome.stderr.strip()}"
            )
        source = Path(answer["Dir"]) / "example" / "prometheus-operator-crd"
        for kind in KINDS:
            # Without the module's own permissions: its files may only be read.
            (target / f"{kind}.yaml").write_bytes((source / f"monitoring.coreos.com_{kind}.yaml").read_bytes())

    return kept(folder_of("prometheus-crds", [f"{MODULE}@{VERSION} {KINDS}".encode()]), make, "prometheus-crds")
