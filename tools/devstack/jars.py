"""Java, and Kafka's jars: found, or fetched once by Maven into the user's cache."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from devstack.errors import DevstackError, MissingToolError

__all__ = ["POM", "cache_folder", "class_archive", "class_path", "fetch", "find_java", "find_maven"]

POM = Path(__file__).with_name("pom.xml")
OLDEST_JAVA = 17
_INSTEAD = "or name another broker in TASKBRIDGE_TEST_KAFKA_BOOTSTRAP_SERVERS."


def find_java() -> Path:
    """Return a Java runtime that can run Kafka: JAVA_HOME's, else the PATH's; raises MissingToolError."""
    remedy = (
        f"Kafka needs Java {OLDEST_JAVA} or later: install it (Debian, Ubuntu: `apt install openjdk-17-jre-headless`; "
        f"macOS: `brew install openjdk@17`) and set JAVA_HOME if it is not on the PATH, {_INSTEAD}"
    )
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        where = f"JAVA_HOME={home} holds no bin/java" if home else "There is no `java` on the PATH"
        raise MissingToolError(f"{where}. {remedy}")
    answer = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = java_version(answer.stderr)
    if version is None:
        raise MissingToolError(f"`{found} -version` does not say a version. {remedy}")
    if version < OLDEST_JAVA:
        raise MissingToolError(f"{found} is Java {version}. {remedy}")
    return Path(found)


def java_version(text: str) -> int | None:
    """Return the feature release (8, 17, 25) from what `java -version` prints; None if it is not there."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else None


def find_maven() -> Path:
    """Return the `mvn` command; raises MissingToolError."""
    found = shutil.which("mvn")
    if found is None:
        raise MissingToolError(
            "There is no `mvn` on the PATH, and Kafka's jars are fetched with it: install Maven (Debian, Ubuntu: "
            f"`apt install maven`; macOS: `brew install maven`) {_INSTEAD}"
        )
    return Path(found)


def cache_folder(pom: Path = POM) -> Path:
    """Return the folder for the jars of exactly this pom, whether it exists or not."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    return root / "taskbridge" / f"kafka-{digest}"


def fetch(report: Callable[[str], None]) -> Path:
    """
    Return the folder with Kafka's jars, fetching them first if need be.

    Safe to call from several processes: one fetches, the others wait. What is at the returned path is
    complete, since it is put there by a rename. Raises MissingToolError, DevstackError.
    """
    folder = cache_folder()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Maven's own repository is not made for two writers at once, hence the lock beside the rename.
    with (folder.parent / "fetch.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder
        maven = find_maven()
        report(f"Fetching Apache Kafka's jars with Maven into {folder} (about 55 MB, only this once) …")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as draft:
            target = Path(draft) / "jars"
            _run_maven(maven, target)
            target.rename(folder)
    return folder


def _run_maven(maven: Path, target: Path) -> None:
    command = [str(maven), "-B", "-ntp", "-f", str(POM), "dependency:copy-dependencies"]
    options = [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
    outcome = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if outcome.returncode or not any(target.glob("*.jar")):
        end = "\n".join(f"    {line}" for line in (outcome.stdout + outcome.stderr).splitlines()[-12:])
        raise DevstackError(
            "Maven could not fetch Kafka's jars: check the network, or the proxies and mirrors in "
            f"~/.m2/settings.xml, and try again. It said:\n{end}"
        )


def class_path(folder: Path) -> str:
    """Return the jars of the folder as Java's class path, in an order that does not change."""
    return os.pathsep.join(str(jar) for jar in sorted(folder.glob("*.jar")))


def class_archive(folder: Path, java: Path) -> Path:
    """Return where the parsed classes of these jars are kept for this Java, whether they are yet or not."""
    real = java.resolve()
    digest = hashlib.sha256(f"{real}:{real.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    return folder / f"classes-{digest}.jsa"
