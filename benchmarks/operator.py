"""What the whole operator takes: its process, on a real API server and a real broker, with a thousand consumers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import click
import yaml  # type: ignore[import-untyped]
from confluent_kafka import KafkaException
from rich.progress import Progress

from benchmarks.grounds import ROOT, BenchmarkFailedError, Process
from benchmarks.measure import Findings
from benchmarks.operator_cluster import cluster_for, town
from benchmarks.operator_metrics import Look, figures, memory_mib
from benchmarks.operator_traffic import traffic
from benchmarks.sampler import POLL, Consumers, prepare
from benchmarks.view import progress, show
from devstack import DevstackError, Stack
from devstack.ports import free_port

ROUND = 60
"""Seconds of a round: two writes of every status that changes, which come every half a minute."""
SETTLE = 660
"""Seconds before the first round: the policy looks ten minutes back, and so much is kept of every consumer by then."""
SCRAPE = 30
"""Seconds between two looks at the metrics, as the chart's PodMonitor has them."""
PATIENCE = 600.0
"""Seconds until the operator has decided on every consumer, at the most."""
ANSWER = 60.0
"""Seconds that one answer may take, at the most."""

WORDS = {
    "core_share": "share of one core",
    "decision_delay_median": "from when consumers are due to the last decision, s",
    "decision_delay_at_most": "the same, no more than, s",
    "sampling_seconds": "of these, sampling, s",
    "looks": "looks at Kafka",
    "decisions_per_look": "decisions on each consumer in a look",
    "decisions_per_poll": "decisions on each consumer in a poll",
    "status_writes_per_second": "statuses written a second",
    "scale_writes_per_second": "replicas written a second",
    "events_per_second": "events written a second",
    "requests_failed": "requests to the API server that failed",
    "incomplete_looks": "looks at Kafka that were incomplete",
    "healthz_seconds": "longest time that /healthz took to answer, s",
    "rss_mib": "memory, MiB",
    "rss_max_mib": "memory at its most since the start, MiB",
    "seconds_to_ready": "from the start to ready, s",
    "seconds_to_decisions": "from the start to a decision on every consumer, s",
    "seconds_to_statuses": "from the start to every consumer's status, s",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    consumers: int
    partitions: int
    moving: int
    """Consumers whose offsets move."""
    rounds: int
    settle: int


class Operator:
    """The process, as the chart starts it, and what a Prometheus and a kubelet ask of it."""

    def __init__(self, process: Process, session: aiohttp.ClientSession, url: str) -> None:
        self._process = process
        self._session = session
        self._url = url
        self._longest = 0.0

    async def look(self) -> Look:
        """Return its metrics, and what it has used by now."""
        return Look.at_process(self._process.pid, await self._ask("/metrics"))

    async def is_ready(self) -> bool:
        """Return whether it says so."""
        try:
            return await self._ask("/readyz") == "ok\n"
        except BenchmarkFailedError:
            self._process.check()
            return False

    async def attend(self, seconds: int, advance: Callable[[], None]) -> Look:
        """Ask for its health every second and for its metrics as Prometheus does; return the look at the end."""
        self._longest = 0.0
        began = time.perf_counter()
        for second in range(1, seconds + 1):
            await asyncio.sleep(max(0.0, began + second - time.perf_counter()))
            asked = time.perf_counter()
            await self._ask("/healthz")
            self._longest = max(self._longest, time.perf_counter() - asked)
            if second % SCRAPE == 0 and second < seconds:
                await self.look()
            advance()
        return await self.look()

    def own_figures(self) -> dict[str, float]:
        """Return what the operator's metrics do not tell."""
        now, most = memory_mib(self._process.pid)
        return {"healthz_seconds": self._longest, "rss_mib": now, "rss_max_mib": most}

    async def _ask(self, path: str) -> str:
        self._process.check()
        try:
            async with self._session.get(self._url + path) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BenchmarkFailedError(f"the operator does not answer to GET {path}: {error}") from error
        if answer.status != 200:
            raise BenchmarkFailedError(f"the operator answered GET {path} with {answer.status}: {text.strip()}")
        return text


@asynccontextmanager
async def started(folder: Path, kubeconfig: Path, servers: str, namespace: str) -> AsyncIterator[Operator]:
    """Yield the operator of one namespace; it is ended afterwards."""
    settings = {
        "namespaces": [namespace],
        "clusters": {"main": {"bootstrapServers": servers, "namespaces": [namespace]}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    http = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), os.environ.get("PYTHONPATH", "")]),
    }
    command = ("lagscaler", "run", f"--config={path}", f"--http={http}", "--log-level=INFO")
    process = Process(command, environment, folder, folder / "operator.log")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER)) as session:
            yield Operator(process, session, f"http://{http}")
    finally:
        await asyncio.to_thread(process.end)


async def start_up(operator: Operator, consumers: int) -> dict[str, float]:
    """Return how long it takes from now to be ready, to decide on every consumer, and to write every status."""
    began = time.perf_counter()
    found = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while not await operator.is_ready():
                await asyncio.sleep(0.1)
            found["seconds_to_ready"] = time.perf_counter() - began
            for name, counted in (("seconds_to_decisions", _decided), ("seconds_to_statuses", _shown)):
                while counted(await operator.look()) < consumers:
                    await asyncio.sleep(1.0)
                found[name] = time.perf_counter() - began
    except TimeoutError as error:
        raise BenchmarkFailedError(f"the operator got no further than {found} within {PATIENCE:g} s") from error
    return found


def _decided(look: Look) -> float:
    """Return on how many consumers was decided after a complete look at Kafka."""
    return look.total("lagscaler_metrics_fresh")


def _shown(look: Look) -> float:
    return look.written("patch", "kafkaconsumers/status")


async def measure(kubeconfig: Path, servers: str, size: Size, findings: Findings) -> None:
    """Make everything that the operator sees, let it work, and note what that takes."""
    present = Consumers(size.consumers, size.partitions, size.consumers)
    with progress() as bar, tempfile.TemporaryDirectory(prefix="benchmark-operator-") as folder:
        async with town(kubeconfig) as place:
            try:
                async with asyncio.TaskGroup() as tasks:
                    attending = tasks.create_task(place.attend())
                    topics = bar.add_task("topics and groups", total=None)
                    await asyncio.to_thread(prepare, servers, present)
                    bar.remove_task(topics)
                    made = bar.add_task("resources and their pods", total=3 * size.consumers)
                    await place.fill(present.requests, lambda: bar.advance(made))
                    async with started(Path(folder), kubeconfig, servers, place.namespace) as operator:
                        await _rounds(operator, servers, size, findings, bar)
                    attending.cancel()
            except ExceptionGroup as group:
                # The others of the group were cancelled because of the first.
                raise group.exceptions[0] from None


async def _rounds(operator: Operator, servers: str, size: Size, findings: Findings, bar: Progress) -> None:
    with driven(servers, size) as check:
        first = await start_up(operator, size.consumers)
        shown = bar.add_task("seconds", total=size.settle + size.rounds * ROUND)

        def advance() -> None:
            check()
            bar.advance(shown)

        before = await operator.attend(size.settle, advance)
        for _ in range(size.rounds):
            after = await operator.attend(ROUND, advance)
            findings.add(**figures(before, after, size.consumers, POLL), **operator.own_figures(), **first)
            before = after


@contextmanager
def driven(servers: str, size: Size) -> Iterator[Callable[[], None]]:
    """Have another process move the offsets; yield what raises BenchmarkFailedError when that has ended."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    driver = context.Process(
        target=traffic, args=(servers, size.consumers, size.partitions, size.moving, stop), daemon=True
    )

    def check() -> None:
        if not driver.is_alive():
            raise BenchmarkFailedError(f"the process that moves the offsets ended with status {driver.exitcode}")

    driver.start()
    try:
        yield check
    finally:
        stop.set()
        driver.join(60)


@click.command()
@click.option("--consumers", type=click.IntRange(1), default=1_000, show_default=True, help="KafkaConsumers.")
@click.option("--partitions", type=click.IntRange(1), default=12, show_default=True, help="Partitions of each topic.")
@click.option(
    "--moving",
    type=click.IntRange(1, 100),
    default=100,
    show_default=True,
    help="Percent of the consumers whose offsets move, and so their statuses.",
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of a minute each.")
@click.option(
    "--settle",
    type=click.IntRange(1),
    default=SETTLE,
    show_default=True,
    help="Seconds of work before the first round; after eleven minutes nothing grows any more.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="TASKBRIDGE_TEST_KUBECONFIG",
    show_envvar=True,
    help="A cluster that runs. Without it one is started, as `python -m cluster up` does it, and ended.",
)
@click.option("--quick", is_flag=True, help="Few consumers and a short run: to see that it works, not for figures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last.")
def main(
    consumers: int,
    partitions: int,
    moving: int,
    rounds: int,
    settle: int,
    kubeconfig: Path | None,
    quick: bool,
    as_json: bool,
) -> None:
    """
    Measure what the whole operator takes: sampling, deciding, writing statuses, watching.

    Starts a Kafka of its own and stops it, and so it does with a Kubernetes, which needs Linux and root, unless
    --kubeconfig names one. What it makes there is in a namespace of its own and is removed. Each KafkaConsumer has a
    Deployment of one pod that no node runs. KUBECONFIG is not looked at: that may be a cluster with other work.

    \b
    Examples:
      python -m benchmarks.operator --json
      python -m benchmarks.operator --quick
      python -m benchmarks.operator --kubeconfig cluster.kubeconfig --moving 20
    """
    if quick:
        consumers, rounds, settle = 20, 1, 20
    size = Size(consumers, partitions, max(1, consumers * moving // 100), rounds, settle)
    findings = Findings(
        "operator",
        ("core_share", "decision_delay_at_most", "rss_max_mib"),
        {**asdict(size), "poll_seconds": POLL, "round_seconds": ROUND},
    )
    try:
        with cluster_for(kubeconfig) as found, Stack(["kafka"]) as stack:
            asyncio.run(measure(found, stack["kafka"].url, size, findings))
    except (DevstackError, KafkaException) as error:
        raise BenchmarkFailedError(str(error)) from error
    findings.machine.finish()
    show(findings, WORDS, as_json=as_json)


if __name__ == "__main__":
    main()
