"""Strimzi's definitions, made by its own generator from its own classes: the same bytes that a release holds."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from crds.cache import folder_of, kept
from crds.errors import CrdsError
from crds.java import find_java

__all__ = ["CLASSES", "POM", "make_strimzi"]

POM = Path(__file__).with_name("pom.xml")

_MODEL = "io.strimzi.api.kafka.model"
CLASSES = {
    "kafkas": f"{_MODEL}.kafka.Kafka",
    "kafkanodepools": f"{_MODEL}.nodepool.KafkaNodePool",
    "kafkatopics": f"{_MODEL}.topic.KafkaTopic",
    "kafkausers": f"{_MODEL}.user.KafkaUser",
    "kafkaconnects": f"{_MODEL}.connect.KafkaConnect",
    "kafkaconnectors": f"{_MODEL}.connector.KafkaConnector",
    "kafkarebalances": f"{_MODEL}.rebalance.KafkaRebalance",
    "strimzipodsets": f"{_MODEL}.podset.StrimziPodSet",
}
"""Plural of a resource -> the class that describes it."""

# What Strimzi's own build passes for a release.
_OPTIONS = [
    *("--label", "app:strimzi", "--label", "strimzi.io/crd-install:true"),
    *("--target-kube", "1.16+", "--crd-api-version", "v1"),
    *("--api-versions", "v1", "--storage-version", "v1", "--yaml"),
]


def make_strimzi(report: Callable[[str], None]) -> Path:
    """
    Return the folder with one YAML file per definition, making it first if need be.

    Raises CrdsError when Java or Maven is missing, or does not do its part.
    """

    def make(target: Path) -> None:
        java = find_java()
        report("Making Strimzi's definitions with Maven and Java (about 40 MB of jars, only this once) …")
        with tempfile.TemporaryDirectory(prefix="strimzi-crds-") as scratch:
            jars = Path(scratch) / "jars"
            _fetch(jars)
            _generate(java, jars, target)

    inputs = [POM.read_bytes(), repr((sorted(CLASSES.items()), _OPTIONS)).encode()]
    # The lock of whoever else fetches jars: Maven's own repository is not made for two writers at once.
    return kept(folder_of("strimzi-crds", inputs), make, "fetch")


def _fetch(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise CrdsError(
            "There is no `mvn` on the PATH, and Strimzi's classes are fetched with it: install Maven (Debian, Ubuntu: "
            "`apt install maven`; macOS: `brew install maven`)."
        )
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
    outcome = subprocess.run([maven, "-B", "-ntp", "-f", str(POM), *goal], capture_output=True, text=True, check=False)
    if outcome.returncode or not any(jars.glob("*.jar")):
        raise CrdsError(
            "Maven could not fetch Strimzi's classes: check the network, or the proxies and mirrors in "
            f"~/.m2/settings.xml, and try again. It said:\n{_end(outcome)}"
        )


def _generate(java: Path, jars: Path, target: Path) -> None:
    files = [f"{name}={target / kind}.yaml" for kind, name in CLASSES.items()]
    class_path = os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))
    command = [str(java), "-Xmx512m", "-cp", class_path, "io.strimzi.crdgenerator.CrdGenerator", *_OPTIONS, *files]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    missing = [kind for kind in CLASSES if not (target / f"{kind}.yaml").is_file()]
    if outcome.returncode or missing:
        raise CrdsError(
            f"Strimzi's generator did not write {', '.join(missing) or 'everything'}; {java} ran it, and it said:\n"
            f"{_end(outcome)}"
        )


def _end(outcome: subprocess.CompletedProcess[str]) -> str:
    return "\n".join(f"    {line}" for line in (outcome.stdout + outcome.stderr).splitlines()[-12:])
