"""Kafka and Celery's broker in memory, as unkind as the real ones, and processes that die when they are told to."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zlib import crc32

from taskbridge.exceptions import PublishAmbiguous, PublishError, PublishRefused
from taskbridge.record import Message, Record

START = 1_760_000_000.0
PARTITIONS = 2

Weather = Literal["calm", "full", "refuses", "doubts", "swallows", "away"]
"""
What becomes of a record: Kafka takes it; the client's queue is full; Kafka refuses it, takes it without saying so, or
loses it; or nothing answers at all.

While it is away nobody can read or commit either.
"""

CeleryWeather = Literal["calm", "doubts", "away"]


class Crash(BaseException):
    """The process that is running ends here, in the middle of whatever it is doing."""


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return START + self.now

    def moment(self) -> datetime:
        """Return the present as an aware datetime."""
        return datetime.fromtimestamp(self.wall(), UTC)


class Process:
    """
    What runs in one process of the operating system.

    Everything that it does outside of itself passes `step`. With a `fuse` it dies at the step after so many; an
    `interlude` is what others do after so many of its steps.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.buried = False
        self.fuse: int | None = None
        self.interlude: tuple[int, Callable[[], None]] | None = None

    def step(self) -> None:
        """Let the world go on; raise Crash when this process is not to live on."""
        if self.interlude is not None:
            rest, others = self.interlude
            self.interlude = (rest - 1, others) if rest else None
            if not rest:
                others()
        if self.fuse is not None:
            self.fuse -= 1
            self.alive = self.alive and self.fuse >= 0
        if not self.alive:
            raise Crash(self.name)


@dataclass(slots=True)
class Begun:
    """A record in the queue of a process's client; `done` once it is known how it ended."""

    topic: str
    record: Record
    done: bool = False
    error: PublishError | None = None


class Kafka:
    """Topics of two partitions each. `weather` holds what happens to the next records, then to all the others."""

    def __init__(self) -> None:
        self.topics: defaultdict[str, list[list[Record]]] = defaultdict(lambda: [[] for _ in range(PARTITIONS)])
        self.climate: Weather = "calm"
        self.weather: deque[Weather] = deque()
        self.watch: list[Callable[[str, Record], None]] = []

    @property
    def away(self) -> bool:
        """Whether nothing answers."""
        return self.climate == "away"

    def client_is_full(self) -> bool:
        """Return whether the client does not even take the next record."""
        if self.weather and self.weather[0] == "full":
            self.weather.popleft()
            return True
        return False

    def deliver(self, begun: Begun) -> None:
        """Bring a record's publish to its end."""
        weather = "away" if self.away else self.weather.popleft() if self.weather else self.climate
        begun.done = True
        if weather in {"calm", "doubts"}:
            self.append(begun.topic, begun.record)
        if weather in {"doubts", "swallows", "away"}:
            begun.error = PublishAmbiguous(f"Kafka said nothing ({weather})")
        elif weather in {"refuses", "full"}:
            begun.error = PublishRefused("Kafka does not take it")

    def append(self, topic: str, record: Record) -> None:
        """Put a record at the end of its partition."""
        for look in self.watch:
            look(topic, record)
        self.topics[topic][crc32(record.key) % PARTITIONS].append(record)


@dataclass(slots=True)
class Delivery:
    """A message in Celery's broker; `redelivered` counts the workers that it was lost with."""

    message: Message
    redelivered: int = 0


class Celery:
    """One queue."""

    def __init__(self) -> None:
        self.queue: deque[Delivery] = deque()
        self.unacknowledged: dict[str, Delivery] = {}
        self.climate: CeleryWeather = "calm"
        self.weather: deque[CeleryWeather] = deque()

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nobody is at anything."""
        return not self.queue and not self.unacknowledged

    def take(self, message: Message) -> None:
        """Put a message into the queue; raise OSError when the publisher is not told so."""
        weather = self.weather.popleft() if self.weather else self.climate
        if weather != "away":
            self.queue.append(Delivery(message))
        if weather != "calm":
            raise OSError(f"Celery's broker is gone ({weather})")

    def lose(self, worker: str) -> None:
        """Give back what a dead worker had not acknowledged, to where it came from."""
        delivery = self.unacknowledged.pop(worker, None)
        if delivery is not None:
            delivery.redelivered += 1
            self.queue.appendleft(delivery)
