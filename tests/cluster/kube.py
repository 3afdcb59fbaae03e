"""kubectl and helm on the cluster of one kubeconfig."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def tool(*arguments: str) -> str:
    """Return what one of the project's own tools prints; its progress goes to the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=3600
    )
    assert done.returncode == 0, f"python -m {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}"
    return done.stdout.strip()


class Kube:
    """Commands on one cluster; each fails the test, with what it said, unless it succeeds."""

    def __init__(self, kubeconfig: Path, kubectl: Path, helm: Path) -> None:
        self._kubectl = str(kubectl)
        self._helm = str(helm)
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0, check: bool = True) -> str:
        """Return what kubectl prints; it has half a minute more than its own `--timeout=…s`."""
        for one in arguments:
            if limit := re.fullmatch(r"--timeout=(\d+)s", one):
                timeout = int(limit[1]) + 30
        return self._run(self._kubectl, arguments, stdin, timeout, check=check)

    def helm(self, *arguments: str, timeout: float = 600.0, check: bool = True) -> str:
        """Return what helm prints."""
        return self._run(self._helm, arguments, None, timeout, check=check)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start kubectl, and leave it running; what is written to it reaches the command with `--stdin`."""
        return subprocess.Popen(
            [self._kubectl, *arguments],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Apply manifests."""
        text = "\n---\n".join(json.dumps(document) for document in documents)
        self.run("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)

    def get(self, kind: str, namespace: str, *arguments: str) -> Any:
        """Return one resource, or the list of several."""
        return json.loads(self.run("get", kind, "--namespace", namespace, "--output", "json", *arguments))

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Return the pods that are not about to go."""
        found = self.get("pods", namespace, *(["--selector", selector] if selector else []))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pod(self, namespace: str, selector: str) -> str:
        """Return the name of a pod that is ready; there must be one."""
        names = [pod["metadata"]["name"] for pod in self.pods(namespace, selector) if is_ready(pod)]
        assert names, f"no pod of {selector} is ready"
        return str(names[0])

    def rolled_out(self, namespace: str, *resources: str, timeout: int = 480) -> None:
        """Wait until the newest version of Deployments and StatefulSets runs."""
        for resource in resources:
            self.run("rollout", "status", "--namespace", namespace, resource, f"--timeout={timeout}s")

    def execute(self, namespace: str, target: str, *command: str, timeout: float = 120.0, check: bool = True) -> str:
        """Return what a command prints inside a pod."""
        return self.run("exec", "--namespace", namespace, target, "--", *command, timeout=timeout, check=check)

    def _run(self, program: str, arguments: Iterable[str], stdin: str | None, timeout: float, *, check: bool) -> str:
        command = [program, *arguments]
        done = subprocess.run(
            command,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            return done.stdout
        return done.stdout + done.stderr


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod says that it can be used."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 300.0, interval: float = 1.0) -> Any:
    """Return the first true value of a condition; fail after `timeout` seconds, saying what did not come true."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout:g} s"
        time.sleep(interval)
    return found
