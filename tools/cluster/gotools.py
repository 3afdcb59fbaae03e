"""Programs for Kubernetes work, built from pinned Go modules: once, into the user's cache."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster import cache
from cluster.errors import ClusterError, MissingPackage

__all__ = ["TOOLS", "Tool", "ensure", "program"]

_SOURCES = Path(__file__).with_name("go")
_KUBERNETES = "1.34.1"
_HELM = "3.19.0"


@dataclass(frozen=True)
class Tool:
    """A Go module under `go/`, and the programs that are built of it."""

    name: str
    packages: tuple[str, ...]
    """Import paths; each gives a program named as its last part."""
    variables: tuple[str, ...] = ()
    """`path.name=value`: what the linker sets. Without a version helm and kubectl refuse each other."""

    @property
    def source(self) -> Path:
        return _SOURCES / self.name

    @property
    def programs(self) -> tuple[str, ...]:
        return tuple(self.name if package == "." else package.rpartition("/")[2] for package in self.packages)

    @property
    def key(self) -> str:
        """What the cache knows the result by: the module's files, how it is built, and for which machine."""
        files = sorted(path for path in self.source.iterdir() if path.is_file())
        content = [part for path in files for part in (path.name, path.read_bytes())]
        machine = f"{platform.system()}-{platform.machine()}"
        return cache.digest([*content, *_command(self, Path("programs")), machine])


def _versions(prefix: str, major: str, minor: str) -> tuple[str, str]:
    return f"{prefix}Major={major}", f"{prefix}Minor={minor}"


_MAJOR, _MINOR, _ = _KUBERNETES.split(".")

TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "kubernetes",
            tuple(
                f"k8s.io/kubernetes/cmd/{name}"
                for name in (
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-proxy",
                    "kube-scheduler",
                    "kubectl",
                    "kubelet",
                )
            ),
            (
                f"k8s.io/component-base/version.gitVersion=v{_KUBERNETES}",
                *_versions("k8s.io/component-base/version.git", _MAJOR, _MINOR),
            ),
        ),
        Tool(
            "helm",
            ("helm.sh/helm/v3/cmd/helm",),
            (
                f"helm.sh/helm/v3/internal/version.version=v{_HELM}",
                *_versions("helm.sh/helm/v3/pkg/lint/rules.k8sVersion", _MAJOR, _MINOR),
                *_versions("helm.sh/helm/v3/pkg/chartutil.k8sVersion", _MAJOR, _MINOR),
            ),
        ),
        Tool("coredns", (".",)),
        Tool("helm-unittest", ("github.com/helm-unittest/helm-unittest/cmd/helm-unittest",)),
        Tool("kube-score", ("github.com/zegl/kube-score/cmd/kube-score",)),
        Tool("helm-docs", ("github.com/norwoodj/helm-docs/cmd/helm-docs",)),
        Tool("pause", (".",)),
        Tool("probe", (".",)),
    )
}


def _command(tool: Tool, target: Path) -> list[str]:
    """Return the build command. Without cgo: the programs then need no compiler, and start in an empty image."""
    flags = " ".join(["-s", "-w", *(f"-X {variable}" for variable in tool.variables)])
    options = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", f"{target}/"]
    return ["go", "build", *options, *tool.packages]


def ensure(name: str, report: Callable[[str], None]) -> Path:
    """Return the folder with the programs of the tool, built first if need be; raises ClusterError."""
    tool = TOOLS[name]
    key = tool.key

    def build(target: Path) -> None:
        report(f"Building {', '.join(tool.programs)} with Go (only this once; Kubernetes takes some minutes) …")
        _build(tool, target)

    return cache.made(tool.name, key, build)


def _build(tool: Tool, target: Path) -> None:
    if shutil.which("go") is None:
        raise MissingPackage(
            f"There is no `go` on the PATH, and {tool.name} is built with it: install Go 1.26 or later (Debian's "
            "own is older: take the archive from go.dev) and try again."
        )
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    done = subprocess.run(
        _command(tool, target), cwd=tool.source, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        end = "\n".join(f"    {line}" for line in done.stderr.splitlines()[-12:])
        raise ClusterError(
            f"Go could not build {tool.name} from {tool.source}: check the network, or GOPROXY, and try again. "
            f"It said:\n{end}"
        )
    if absent := [name for name in tool.programs if not (target / name).is_file()]:
        raise ClusterError(f"Go built {tool.name} from {tool.source}, but not {', '.join(absent)}.")


def program(name: str, report: Callable[[str], None]) -> Path:
    """Return the path of one program (`kubectl`, `helm`), built first if need be; raises ClusterError."""
    for tool in TOOLS.values():
        if name in tool.programs:
            return ensure(tool.name, report) / name
    raise ClusterError(f"There is no program {name}: it is one of {', '.join(sorted(_programs(TOOLS.values())))}.")


def _programs(tools: Iterable[Tool]) -> list[str]:
    return [name for tool in tools for name in tool.programs]
