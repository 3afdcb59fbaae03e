"""
The plant against a real Kafka: how long rebalances stop consumers there, and whether lag goes where the plant says.

Plain consumers, processes with a fixed time for each record, share a topic under a steady load: two at first, three
more come, three go. The same is simulated with the delays and the rate that were measured, and the two courses of lag
are compared.
"""

from __future__ import annotations

import os
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from threading import Event, Thread

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.autoscaling.load import Epoch, Load
from benchmarks.autoscaling.plant import Consumers, Plant, Site
from benchmarks.grounds import ROOT, BenchmarkFailedError, Process, wait_for
from devstack import DevstackError, Stack

PROTOCOLS = ("range", "cooperative-sticky", "consumer")
PARTITIONS = 12
RATE = 40.0
"""Records a second of one consumer."""
LOAD = 120
"""Records a second that are written, evenly."""
FEW, MANY = 2, 5
MORE, FEWER, SECONDS = 20, 65, 90
"""Seconds in which consumers come and go, and in which all ends."""
WINDOW = 25
"""Seconds after a change in which its rebalances are looked for."""
TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Note:
    """One record that a consumer has done."""

    at: float
    partition: int
    consumer: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one protocol did; durations in seconds, lags in records."""

    protocol: str
    rate: float
    """Records a second of one consumer while there was more to do."""
    start: float
    """From starting a consumer's process to its first record, the median of those that came later."""
    moved: float
    """How long a partition that changed its owner was not consumed, the median over both changes."""
    stayed: float
    """The longest that consumers which were there all the time did nothing after a change, the median."""
    measured: tuple[float, ...]
    """Lag after each second."""
    predicted: tuple[float, ...]
    """The plant's, with these delays and this rate."""

    @property
    def error(self) -> float:
        """The mean distance of the two, over the highest lag that was measured."""
        return mean(abs(one - other) for one, other in zip(self.measured, self.predicted, strict=True)) / max(
            self.measured
        )


def calibrate() -> list[Calibration]:
    """Try each protocol on a Kafka of its own; takes five minutes. Raises BenchmarkFailedError when it cannot."""
    try:
        with tempfile.TemporaryDirectory(prefix="calibration-") as folder, Stack(("kafka",)) as stack:
            return [_try(stack["kafka"].url, protocol, Path(folder)) for protocol in PROTOCOLS]
    except DevstackError as error:
        raise BenchmarkFailedError(str(error)) from error


def _try(servers: str, protocol: str, folder: Path) -> Calibration:
    topic = f"calibration-{protocol}"
    # In a variable: a client that is collected takes its requests along.
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    group = _Group(servers, topic, protocol, folder)
    try:
        group.grow(FEW)
        _write(servers, topic, PARTITIONS)
        wait_for(lambda: len(group.notes()) == PARTITIONS, "the first record of each partition", TIMEOUT, group.check)
        begun = time.time()
        with _writing(servers, topic, begun):
            _wait_until(begun + MORE, group)
            group.grow(MANY)
            _wait_until(begun + FEWER, group)
            group.shrink(FEW)
            _wait_until(begun + SECONDS, group)
        return assess(protocol, group.notes()[PARTITIONS:], begun, group.started[FEW:])
    finally:
        group.shrink(0)


class _Group:
    """The consumers of one trial."""

    def __init__(self, servers: str, topic: str, protocol: str, folder: Path) -> None:
        self._command = ("benchmarks.autoscaling.consumer", servers, topic, protocol, topic, str(RATE))
        self._folder = folder
        self._topic = topic
        self._running: list[Process] = []
        self._paths: list[Path] = []
        self.started: list[float] = []
        """When each was started."""

    def grow(self, count: int) -> None:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        while len(self._running) < count:
            notes = self._folder / f"{self._topic}-{len(self._paths)}"
            self.started.append(time.time())
            self._paths.append(notes)
            command = (*self._command, str(notes))
            self._running.append(
                Process(command, os.environ | {"PYTHONPATH": path}, self._folder, notes.with_suffix(".log"))
            )

    def shrink(self, count: int) -> None:
        leaving = self._running[count:]
        del self._running[count:]
        # All at once, as a ReplicaSet does it.
        threads = [Thread(target=one.end) for one in leaving]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def check(self) -> None:
        for one in self._running:
            one.check()

    def notes(self) -> list[Note]:
        """Return what all have done, in order of time."""
        found: list[Note] = []
        for consumer, path in enumerate(self._paths):
            lines = path.read_text("ascii").splitlines() if path.exists() else []
            found.extend(
                Note(float(at), int(partition), consumer) for at, partition in (line.split() for line in lines)
            )
        return sorted(found, key=lambda note: note.at)


def _wait_until(moment: float, group: _Group) -> None:
    while (left := moment - time.time()) > 0:
        group.check()
        time.sleep(min(left, 0.5))


def _write(servers: str, topic: str, records: int) -> None:
    """Write one record to each partition in turn."""
    producer = Producer({"bootstrap.servers": servers})
    for number in range(records):
        producer.produce(topic, b"x" * 100, partition=number % PARTITIONS)
    producer.flush(30)


@contextmanager
def _writing(servers: str, topic: str, begun: float) -> Iterator[None]:
    """Write the load, from `begun` on, for as long as the block lasts."""
    ended = Event()

    def write() -> None:
        producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        sent = 0
        while not ended.wait(0.02):
            due = int((time.time() - begun) * LOAD)
            for number in range(sent, due):
                producer.produce(topic, b"x" * 100, partition=number % PARTITIONS)
            sent = max(sent, due)
            producer.poll(0)
        producer.flush(30)

    thread = Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def assess(protocol: str, notes: Sequence[Note], begun: float, started: Sequence[float]) -> Calibration:
    """
    Return what the notes say, in order of time; `started` is when the consumers that came later were.

    Raises BenchmarkFailedError when one of them never did a record, or no partition changed its owner.
    """
    starts = []
    for consumer, at in enumerate(started, FEW):
        first = next((note.at for note in notes if note.consumer == consumer), None)
        if first is None:
            raise BenchmarkFailedError(f"consumer {consumer} of {protocol} did nothing in {SECONDS} s")
        starts.append(first - at)
    changes = [begun + MORE, begun + FEWER]
    moved = [gap for change in changes for gap in _handovers(notes, change)]
    if not moved:
        raise BenchmarkFailedError(f"no partition changed its owner with {protocol}")
    stayed = [_longest(notes, change, consumer) for change in changes for consumer in range(FEW)]
    times = [note.at for note in notes]
    measured = [max(0.0, second * LOAD - bisect_right(times, begun + second)) for second in range(1, SECONDS + 1)]
    start, pause, rate = median(starts), median(moved), _saturated(times, begun)
    return Calibration(
        protocol,
        rate,
        start,
        pause,
        median(stayed),
        tuple(measured),
        predict(eager=protocol == "range", rate=rate, start=start - pause, pause=pause),
    )


def _saturated(times: Sequence[float], begun: float) -> float:
    """Return a consumer's records a second from the first change back, and from when the last one has settled."""
    spans = ((begun + MORE / 2, begun + MORE), (begun + (FEWER + SECONDS) / 2, begun + SECONDS))
    return mean((bisect_right(times, end) - bisect_right(times, start)) / (end - start) for start, end in spans) / FEW


def _handovers(notes: Sequence[Note], change: float) -> Iterator[float]:
    """Give for each partition how long nobody did it when its owner changed, in the seconds after a change."""
    for partition in range(PARTITIONS):
        own = [note for note in notes if note.partition == partition]
        for before, after in pairwise(own):
            if before.consumer != after.consumer and change <= after.at < change + WINDOW:
                yield after.at - before.at


def _longest(notes: Sequence[Note], change: float, consumer: int) -> float:
    """Return the longest time for which a consumer did nothing, in the seconds after a change."""
    times = [note.at for note in notes if note.consumer == consumer and change <= note.at < change + WINDOW]
    return max((after - before for before, after in pairwise(times)), default=float(WINDOW))


def predict(*, eager: bool, rate: float, start: float, pause: float) -> tuple[float, ...]:
    """Return the plant's lag after each second of the schedule."""
    site = Site(PARTITIONS, rate, SECONDS, max(1.0, start), max(1, round(pause)), spread=0, noise=0)
    load = Load([float(LOAD)] * SECONDS, [Epoch(0, (1 / PARTITIONS,) * PARTITIONS)])
    plant = Plant(site, Consumers("plain", eager=eager, commit=5, busy=False), load, "calibration", FEW, looks=SECONDS)
    lags = []
    for second in range(SECONDS):
        if second == MORE:
            plant.scale(MANY)
        elif second == FEWER:
            plant.scale(FEW)
        plant.tick()
        lags.append(plant.unconsumed())
    return tuple(lags)
