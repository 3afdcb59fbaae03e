"""Starting, finding and ending a cluster, as seen from the machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from cluster import addresses, cache, gotools, links, packages
from cluster.api import Api
from cluster.archive import write_image
from cluster.errors import ClusterError
from cluster.layout import Layout, Plan
from cluster.node import HIDDEN, PAUSE_IMAGE
from cluster.supervisor import wait_until
from devstack.process import ProcessId, last_lines

__all__ = ["DEFAULT_STORAGE", "IMAGES", "Cluster", "image_of"]

DEFAULT_STORAGE = "12g"

IMAGES = {"pause": PAUSE_IMAGE, "coredns": "docker.io/taskbridge/coredns:1", "probe": "docker.io/taskbridge/probe:1"}
_TIMEOUT = 240.0
_ANSWER_TIMEOUT = 60.0
_LAUNCH_TIMEOUT = 10.0
_STOP_TIMEOUT = 30.0
_MARK = "cluster.json"
_TOOLS_FOLDER = Path(__file__).resolve().parent.parent
_CGROUPS = Path("/sys/fs/cgroup")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Report = Callable[[str], None]


def image_of(tool: str, report: Report) -> Path:
    """Return the archive of an image that holds the program of one of our tools, made first if need be."""
    program = gotools.program(tool, report)
    key = cache.digest([program.parent.name, Path(__file__).with_name("archive.py").read_bytes(), IMAGES[tool]])
    folder = cache.made(f"image-{tool}", key, lambda made: write_image(made / "image.tar", IMAGES[tool], program))
    return folder / "image.tar"


class Cluster:
    """The cluster of a state folder, whether it runs or not."""

    def __init__(self, state_dir: Path, report: Report) -> None:
        self.layout = Layout(state_dir.resolve())
        self._report = report
        self._kept_logs = cache.root() / f"cluster-{self.layout.name}.failed"

    def first_process(self) -> ProcessId | None:
        """Return the cluster's first process, with which all others end; None when nothing runs."""
        mark = self.layout.root / _MARK
        try:
            raw = json.loads(mark.read_text())["process"]
            recorded = ProcessId(**raw) if raw else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as malformed:
            raise ClusterError(
                f"{mark} was not written by this tool ({malformed}): name another folder."
            ) from malformed
        return recorded if recorded is not None and recorded.process() is not None else None

    def is_ready(self) -> bool:
        """Whether the cluster runs, has started, and its API server says that it can be used."""
        started = self.first_process() is not None and self.layout.ready.exists()
        return started and Api(self.layout.kubeconfig).is_ready()

    def require_running(self) -> ProcessId:
        """Return the first process; raises ClusterError when there is none."""
        if (process := self.first_process()) is None:
            raise ClusterError(f"No cluster runs in {self.layout.root}: start it with `python -m cluster up`.")
        return process

    def up(self, storage: str = DEFAULT_STORAGE) -> bool:
        """
        Start the cluster and wait until it is ready; False when it ran already.

        What a start that was broken off left is removed first. `storage` limits the memory for images, containers
        and volumes. Raises ClusterError; then nothing runs, or what ran before still does.
        """
        _require_root()
        if not re.fullmatch(r"[1-9][0-9]*[kmg]", storage):
            raise ClusterError(f"{storage!r} is no amount of storage: write a number and k, m or g, as in 8g.")
        packages.require()
        self._require_place()
        programs = gotools.ensure("kubernetes", self._report)
        images = [str(image_of(name, self._report)) for name in ("pause", "coredns")]
        with self._locked():
            if self.first_process() is not None and self.layout.ready.exists():
                # An API server that is busy, or is just starting again, does not say that it is ready.
                silent = (
                    f"The cluster runs, but its API server did not answer (the logs are in {self.layout.logs}; "
                    "`python -m cluster down` ends it)"
                )
                wait_until(self.is_ready, silent, _ANSWER_TIMEOUT)
                for node in addresses.NODES:
                    self.enter(node)
                return False
            self._remove()
            try:
                self._start(Plan(0, str(programs), images, storage))
            except BaseException:
                self._keep_logs()
                self._remove()
                raise
            shutil.rmtree(self._kept_logs, ignore_errors=True)
        return True

    def _require_place(self) -> None:
        root = self.layout.root
        if ":" in str(root):
            raise ClusterError(f"{root} has a colon, at which KUBECONFIG would be cut in two: name another folder.")
        if any(root.is_relative_to(folder) for folder in HIDDEN):
            raise ClusterError(f"{root} lies in a folder that the nodes cover with their own: name one elsewhere.")
        if root.exists() and not root.is_dir():
            raise ClusterError(f"{root} is not a folder: name another one.")
        if root.exists() and any(root.iterdir()) and not (root / _MARK).exists():
            raise ClusterError(f"{root} holds other things than a cluster: name an empty folder.")
        bridge = Path("/proc/sys/net/bridge")
        if not bridge.exists():
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
        if not bridge.exists():
            raise ClusterError(
                "The kernel has no br_netfilter, without which no NetworkPolicy holds: load that module."
            )

    def _start(self, plan: Plan) -> None:
        layout = self.layout
        self._mark(None)
        layout.logs.mkdir()
        found = links.connect(layout.name, layout.interface)
        layout.write_plan(replace(plan, slot=found.slot))
        first = self._launch()
        shown = 0
        log = layout.logs / "init.log"

        def progress() -> None:
            nonlocal shown
            lines = log.read_text().splitlines()
            for line in lines[shown:]:
                self._report(line)
            shown = len(lines)
            if layout.failure.exists():
                raise ClusterError(f"The cluster did not start. {layout.failure.read_text()}")
            if first.process() is None:
                raise ClusterError(f"The cluster's first process ended. The end of its log:\n{last_lines(log)}")

        wait_until(layout.ready.exists, "The cluster was not ready", _TIMEOUT, progress)
        progress()

    def _launch(self) -> ProcessId:
        """Start the first process in namespaces of its own, and record it before it does anything."""
        isolation = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private", "--kill-child"]
        program = [sys.executable, "-m", "cluster.controlplane", str(self.layout.root)]
        # Not a child of ours: it stays when we end, and somebody else reaps it.
        command = ["setsid", "--fork", "unshare", *isolation, *program]
        environment = {"PATH": _PATH, "PYTHONPATH": str(_TOOLS_FOLDER), "LANG": "C.UTF-8", "HOME": "/root"}
        log = self.layout.logs / "init.log"
        start, go = os.pipe()
        with os.fdopen(go, "w") as pipe:
            with os.fdopen(start) as end, log.open("wb") as output:
                subprocess.run(command, stdin=end, stdout=output, stderr=output, env=environment, check=True)
            found: list[int] = []

            def is_found() -> bool:
                found.extend(_first_of_namespace(program))
                return bool(found)

            wait_until(is_found, "The namespaces were not made", _LAUNCH_TIMEOUT)
            first = ProcessId.of(found[0])
            self._mark(first)
            links.hand_over(self.layout.interface, first.pid)
            pipe.write("go\n")
        return first

    def _mark(self, process: ProcessId | None) -> None:
        draft = self.layout.root / f"{_MARK}.draft"
        draft.write_text(json.dumps({"process": asdict(process) if process else None}))
        draft.replace(self.layout.root / _MARK)

    def _keep_logs(self) -> None:
        """Put the logs of a start that failed where its removal does not reach."""
        shutil.rmtree(self._kept_logs, ignore_errors=True)
        if self.layout.logs.exists():
            shutil.copytree(self.layout.logs, self._kept_logs)
            self._report(f"The logs of the start that failed are in {self._kept_logs}.")

    def down(self) -> bool:
        """End the cluster and remove all that is left of it; False when there was nothing. Raises ClusterError."""
        _require_root()
        root = self.layout.root
        if not root.exists():
            return False
        if not (root / _MARK).exists():
            raise ClusterError(f"{root} is not the folder of a cluster: nothing was removed.")
        with self._locked():
            self._remove()
        return True

    def _remove(self) -> None:
        layout = self.layout
        if (first := self.first_process()) is not None and (process := first.process()) is not None:
            process.kill()
            wait_until(lambda: first.process() is None, "The cluster's first process did not end", _STOP_TIMEOUT)
        try:
            found = layout.read_plan().addresses
        except (OSError, ValueError, TypeError):
            found = None
        links.disconnect(layout.interface, found)
        wait_until(self._cgroups_removed, "Processes of the cluster did not end", _STOP_TIMEOUT)
        for path in layout.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _cgroups_removed(self) -> bool:
        """Remove the nodes' control groups; False while a last process is in one of them."""
        for node in addresses.NODES:
            name = self.layout.cgroup(node)
            for top in [_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")]:
                for folder, _, _ in os.walk(top, topdown=False):
                    try:
                        Path(folder).rmdir()
                    except OSError:
                        return False
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the state folder for one change at a time; remove it afterwards if it is empty."""
        root = self.layout.root
        with cache.locked(f"cluster-{self.layout.name}"):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                yield
            finally:
                if not any(root.iterdir()):
                    root.rmdir()

    def load(self, archive: Path) -> None:
        """Put the images of an archive (`docker save`, or OCI) on both nodes; raises ClusterError."""
        importing = []
        for node in addresses.NODES:
            # Nodes do not see every folder of the machine, but what is open they can read.
            with archive.open("rb") as content:
                command = [*self.enter(node), "ctr", "-n", "k8s.io", "images", "import", "-"]
                importing.append(
                    subprocess.Popen(
                        command, stdin=content, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                    )
                )
        said = [(one.communicate()[0], one.returncode) for one in importing]
        for text, status in said:
            if status:
                raise ClusterError(f"{archive} is not an archive of images that can be loaded: {text.strip()}")

    def enter(self, node: str) -> list[str]:
        """Return what a command is preceded by to run on the node; raises ClusterError when no cluster runs."""
        first = self.require_running()
        inner = self.layout.node_pid(node).read_text()
        namespace = Path(f"/proc/{first.pid}/ns/pid").readlink()
        for pid, status in _processes():
            if status["NSpid"][-1] == inner and Path(f"/proc/{pid}/ns/pid").readlink() == namespace:
                return ["nsenter", f"--target={pid}", "--mount", "--net", "--pid"]
        raise ClusterError(f"{node} of the cluster in {self.layout.root} has ended: `down` and `up` start it again.")


def _processes() -> Iterator[tuple[int, dict[str, list[str]]]]:
    """Yield every process of the machine with what the kernel says of it."""
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = path.read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(path.parent.name), {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


def _first_of_namespace(program: list[str]) -> list[int]:
    """Return the processes that are number 1 of a namespace and run, or are about to run, the program."""
    wanted = "\0".join(program).encode()
    candidates = [pid for pid, status in _processes() if status["NSpid"][1:] == ["1"]]
    return [pid for pid in candidates if wanted in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    """Return the arguments of a process, each followed by a zero byte; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _require_root() -> None:
    if sys.platform != "linux":
        raise ClusterError("The cluster needs Linux: its nodes are namespaces of this machine.")
    if os.geteuid() != 0:
        raise ClusterError("Only root can make namespaces and networks: run it with sudo.")
