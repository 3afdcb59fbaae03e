"""A part of the operator's work: samples of a thousand consumers from a real broker, and the decisions on them."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.synchronize import Event

import click
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exports

from benchmarks.grounds import BenchmarkFailedError
from benchmarks.measure import Findings
from benchmarks.view import progress, show
from devstack import Stack
from lagscaler.kafka.sampler import Reading, Request, Sampler
from lagscaler.policy.decide import decide
from lagscaler.policy.model import Sample, Spec, State
from lagscaler.settings import ClusterSettings

POLL = 10.0
"""Seconds between two polls, as is the operator's default."""

REPLICAS = 3
RATE = 10
"""Records between two polls in each partition, as the history before the first one has it."""

TOPICS_AT_ONCE = 25
TIMEOUT = 600.0
LATE = (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT)
WATCH = 0.05
"""Seconds between two looks at whether the event loop still turns."""

WORDS = {
    "core_share": "sampler and decisions, share of one core",
    "seconds_to_decision": "from the poll's beginning to the last decision, s",
    "sampling_seconds": "of these, sampling, s",
    "sampler_share": "sampler alone, share of one core",
    "decide_us": "one decision, processor time, µs",
    "stall_seconds": "longest time that the event loop stood, s",
    "first_poll_seconds": "the first poll, with connections, coordinators and times, s",
}


class Consumers:
    """Consumers as the operator keeps them: a request, samples of ten minutes and a state each."""

    def __init__(self, topics: int, partitions: int, consumers: int) -> None:
        self.topics = [f"bench-{number:04}" for number in range(topics)]
        self.partitions = partitions
        self.requests = [
            Request(number, f"workers-{number:04}", (self.topics[number % topics],)) for number in range(consumers)
        ]
        self.spec = Spec(poll=POLL)
        self.samples: list[deque[Sample]] = [deque(maxlen=int(self.spec.window / POLL)) for _ in self.requests]
        self._states = [State() for _ in self.requests]

    def remember(self, readings: dict[object, Reading]) -> None:
        """Take the first readings, and fill the time before them with what they would have been."""
        for number, samples in enumerate(self.samples):
            now = readings[number].sample(REPLICAS, REPLICAS)
            samples.extend(_earlier(now, ago) for ago in range(samples.maxlen or 0, 0, -1))

    async def decide(self, readings: dict[object, Reading]) -> None:
        """Decide for every consumer, and let others have their turn on the event loop."""
        for number, samples in enumerate(self.samples):
            samples.append(readings[number].sample(REPLICAS, REPLICAS))
            self._states[number] = decide(samples, self.spec, self._states[number]).state
            await asyncio.sleep(0)


def _earlier(sample: Sample, polls: int) -> Sample:
    """Return the sample of so many polls ago, of a consumer that keeps up with a steady rate."""
    partitions = {
        key: replace(one, end=one.end - RATE * polls, start=one.start - RATE * polls, committed=one.end - RATE * polls)
        for key, one in sample.partitions.items()
    }
    return replace(sample, at=sample.at - POLL * polls, partitions=partitions)


def prepare(servers: str, consumers: Consumers) -> None:
    """Create the topics, and have every group commit; raise BenchmarkFailedError where the broker cannot."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for at in range(0, len(consumers.topics), TOPICS_AT_ONCE):
        new = [NewTopic(name, consumers.partitions, 1) for name in consumers.topics[at : at + TOPICS_AT_ONCE]]
        for future in admin.create_topics(new, operation_timeout=60.0, request_timeout=120.0).values():
            future.result()
    # A member of a group has its coordinator made, which a mere question does not wait for.
    first = Consumer({"bootstrap.servers": servers, "group.id": "first", "enable.auto.commit": False, "log_level": 0})
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with suppress(KafkaException):
            first.commit(offsets=[TopicPartition(consumers.topics[0], 0, 0)], asynchronous=False)
            break
    else:
        raise BenchmarkFailedError(f"the broker took no commit within {TIMEOUT:g} s")
    first.close()
    commit(admin, consumers.requests, consumers.partitions, 0)


def commit(admin: AdminClient, requests: Sequence[Request], partitions: int, offset: int) -> None:
    """Commit an offset for every partition of groups; raise KafkaException when the broker does not take it."""
    for request in requests:
        metadata = "v=1;busy=0.42;beyond=3.1.40.2"
        given = [TopicPartition(request.topics[0], number, offset, metadata) for number in range(partitions)]
        asked = [ConsumerGroupTopicPartitions(request.group, given)]
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                for future in admin.alter_consumer_group_offsets(asked, request_timeout=60.0).values():
                    future.result()
                break
            except KafkaException as error:
                # A broker that shares the machine, and has thousands of partitions to make, may answer late.
                if error.args[0].code() not in LATE or time.monotonic() > deadline:
                    raise


def traffic(servers: str, topics: int, partitions: int, consumers: int, stop: Event) -> None:
    """Write to every partition, and commit for every group, about once in a poll, until told to stop."""
    present = Consumers(topics, partitions, consumers)
    producer = Producer({"bootstrap.servers": servers, "log_level": 0, "linger.ms": 100})
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    written = 0
    pieces = [present.requests[at::100] for at in range(100)]
    while not stop.is_set():
        for topic in present.topics:
            for partition in range(partitions):
                producer.produce(topic, b"x", partition=partition)
            producer.poll(0)
        written += 1
        for piece in pieces:
            commit(admin, piece, partitions, written)
            if stop.wait(POLL / len(pieces)):
                break
    producer.flush(30)


class Watch:
    """How long the event loop stood at the most."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(WATCH)
            self.longest = max(self.longest, time.perf_counter() - before - WATCH)

    def take(self) -> float:
        """Return the longest time since this was last asked."""
        longest, self.longest = self.longest, 0.0
        return longest


async def measure(servers: str, consumers: Consumers, polls: int, findings: Findings) -> None:
    """Poll and decide as the operator does, and note what it took."""
    watch = Watch()
    watching = asyncio.create_task(watch.run())
    async with Sampler(ClusterSettings("bench", servers), timeout=60.0, attempt=30.0) as sampler:
        started = time.perf_counter()
        readings = await sampler.sample([replace(one, want_times=True) for one in consumers.requests])
        first = time.perf_counter() - started
        _check(readings)
        consumers.remember(dict(readings))
        await asyncio.sleep(2 * WATCH)
        with progress() as bar:
            shown = bar.add_task("polls", total=polls)
            for _ in range(polls):
                watch.take()
                began, cpu = time.perf_counter(), time.process_time()
                readings = await sampler.sample(consumers.requests)
                sampled, cpu_sampled = time.perf_counter(), time.process_time()
                _check(readings)
                await consumers.decide(dict(readings))
                decided, cpu_decided = time.perf_counter(), time.process_time()
                await asyncio.sleep(max(0.0, POLL - (decided - began)))
                findings.add(
                    core_share=(time.process_time() - cpu) / (time.perf_counter() - began),
                    seconds_to_decision=decided - began,
                    sampling_seconds=sampled - began,
                    sampler_share=(cpu_sampled - cpu) / POLL,
                    decide_us=(cpu_decided - cpu_sampled) / len(consumers.requests) * 1e6,
                    stall_seconds=watch.take(),
                    first_poll_seconds=first,
                )
                bar.advance(shown)
    watching.cancel()


def _check(readings: object) -> None:
    assert isinstance(readings, dict)
    for reading in readings.values():
        if reading.gaps:
            raise BenchmarkFailedError(f"a sample is incomplete: {'; '.join(reading.gaps.values())}")


@click.command()
@click.option("--consumers", type=click.IntRange(1), default=1_000, show_default=True, help="Consumer groups.")
@click.option("--topics", type=click.IntRange(1), default=1_000, show_default=True, help="Topics that they share.")
@click.option("--partitions", type=click.IntRange(1), default=12, show_default=True, help="Partitions of each topic.")
@click.option("--polls", type=click.IntRange(1), default=12, show_default=True, help="Polls, ten seconds apart.")
@click.option("--quick", is_flag=True, help="Few topics and polls: to see that it works, not for figures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last.")
def main(consumers: int, topics: int, partitions: int, polls: int, quick: bool, as_json: bool) -> None:
    """
    Measure what sampling and deciding for many consumers takes of one core.

    That is not all of the operator, which writes statuses and watches beside it: see `python -m benchmarks.operator`.
    Starts a Kafka of its own and stops it. Another process writes to every partition and commits for every group. Each
    consumer has ten minutes of samples behind it, as it has when the operator has run for a while.

    \b
    Examples:
      python -m benchmarks.sampler
      python -m benchmarks.sampler --quick --json
    """
    if quick:
        consumers, topics, polls = 50, 5, 2
    topics = min(topics, consumers)
    findings = Findings(
        "sampler",
        ("core_share", "seconds_to_decision"),
        {"consumers": consumers, "topics": topics, "partitions": partitions, "polls": polls, "poll_seconds": POLL},
    )
    present = Consumers(topics, partitions, consumers)
    with Stack(["kafka"]) as stack:
        servers = stack["kafka"].url
        prepare(servers, present)
        stop = multiprocessing.get_context("spawn").Event()
        driver = multiprocessing.get_context("spawn").Process(
            target=traffic, args=(servers, topics, partitions, consumers, stop), daemon=True
        )
        driver.start()
        try:
            asyncio.run(measure(servers, present, polls, findings))
        finally:
            stop.set()
            driver.join(60)
    findings.machine.finish()
    show(findings, WORDS, as_json=as_json)


if __name__ == "__main__":
    main()
