"""
A whole system in one thread: processes that dispatch, a relay, workers of both sides, and the three servers.

What decides is the product's own code; servers, locks and processes are played. Every action is a method, so that a
case that was found is told as a few calls.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from taskbridge.contrib.django import fences
from taskbridge.cutover import Flag, FlagCache, Stage, decide
from taskbridge.dispatch import Counting, Dispatcher, Numbering, Outgoing
from taskbridge.dispatch.barrier import barrier
from taskbridge.exceptions import TaskbridgeError
from taskbridge.observation import DispatchRow
from taskbridge.record import Message, Record
from taskbridge.relay import Relay, Sender
from taskbridge.settings import PublishMode, ServiceSettings
from taskbridge.testing import RecordingObserver, settings
from tests.unit.machine.database import Database, RelayTables
from tests.unit.machine.journal import Call, Journal
from tests.unit.machine.moving import SERVICE, Moving
from tests.unit.machine.ports import CeleryPort, FlagPort, GatePort, KafkaPort, PendingPort
from tests.unit.machine.servers import Celery, Clock, Crash, Kafka, Process
from tests.unit.machine.workers import CeleryWorker, Group

PLACE, PAY = "orders.place", "orders.pay"
ROADS: tuple[Counting, ...] = ("celery", "kafka", "delayed", "outbox", "queued")
DELAYED = 30.0
"""Seconds that a delayed message waits."""


class Sending(Process):
    """A process that dispatches, or relays: its ports, its flags, and what it counted."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name)
        self.flags = FlagCache(FlagPort(self, world.database), {SERVICE: Stage.OFF}, world.clock)
        self.kafka = KafkaPort(self, world.kafka, lambda topic, record: world.judge_kafka(self, topic, record))
        self.celery = CeleryPort(self, world.celery, lambda message: world.judge_celery(self, message))
        self.pending = PendingPort(self, world.database)
        self.observer = RecordingObserver()


class Web(Sending):
    """A process that dispatches."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name, world)
        self.dispatcher = Dispatcher(
            world.settings,
            self.flags,
            self.kafka,
            self.kafka,
            self.pending,
            self.observer,
            wall=world.clock.wall,
            clock=world.clock,
            resender=self.celery,
            callers=self.pending,
            gates=GatePort(self, world.database),
        )
        self.barriers: list[tuple[barrier, list[Call]]] = []
        self.noted: list[Call] = []
        self.bridged: set[str] = set()
        self.joined: list[Call] = []
        self._context: Context = copy_context()

    def run(self, action: Callable[[], Any]) -> Any:
        """Do something in this process, whose context variables are its own."""
        return self._context.run(action)

    def rows(self) -> list[DispatchRow]:
        """Return what it observed of its dispatches."""
        return [row for row in self.observer.rows if isinstance(row, DispatchRow)]

    def count(self) -> int:
        """Return how many messages it counted, whatever the road."""
        return sum(self.dispatcher.counters.get(SERVICE, road) for road in ROADS)


class RelayProcess(Sending):
    """A relay."""

    def __init__(self, name: str, world: World, batch: int) -> None:
        super().__init__(name, world)
        tables = RelayTables(world.database, self, world.clock, [SERVICE] if world.ordered else [])
        sender = Sender(
            world.settings, self.flags, self.kafka, self.celery, self.observer, Numbering(), wall=world.clock.wall
        )
        self.relay = Relay(tables, sender, batch, 0.25, world.clock, world.sleep, keepers=[world])


class World(Moving):
    """Everything; `faults` names what went wrong so far."""

    def __init__(self, *, ordered: bool = False, webs: int = 2) -> None:
        self.ordered = ordered
        self.settings = settings(ServiceSettings(SERVICE, tasks=("orders.*",), ordered=ordered), prefix="shop")
        self.clock = Clock()
        self.database = Database(self.clock)
        self.kafka, self.celery = Kafka(), Celery()
        self.kafka.watch.append(self._judge_record)
        self.journal = Journal(self.database, self.clock)
        self.faults: list[str] = []
        self._names = 0
        self.webs = [self._web() for _ in range(webs)]
        self.relay = self._relay()
        self.group = Group(self.kafka, self.settings.topic(SERVICE), self.journal, ordered)
        for _ in range(2):
            self.group.join()
        count = 1 if ordered else 2
        self.celery_workers = [CeleryWorker(f"celery-{n}", self.celery, self.journal) for n in range(count)]
        self.moved_at = float("-inf")

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"

    def _web(self) -> Web:
        return Web(self._name("web"), self)

    def _relay(self) -> RelayProcess:
        return RelayProcess(self._name("relay"), self, batch=3)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds

    # Dispatching

    def dispatch(
        self,
        web: Web | None = None,
        *,
        task: str = PLACE,
        key: str = "k",
        mode: PublishMode = "confirm",
        once: bool = False,
        delay: float = 0.0,
        retries: int = 0,
        unsupported: bool = False,
    ) -> Call:
        """Dispatch a message from a process, by default the first; what it may raise is kept from the caller."""
        web = web or self.webs[0]
        call = self.journal.new(task, key, once)
        call.unsupported, call.placeless = unsupported, delay > 0
        headers = b'{"retries": %d}' % retries
        message = Message(task, call.id, b"[[],{},{}]", "application/json", "utf-8", headers, b"{}")
        outgoing = Outgoing(
            service=self.settings.services[SERVICE],
            task=task,
            task_id=call.id,
            retries=retries,
            nesting=0,
            key=key,
            body=message.body,
            to_celery=lambda: web.celery.plain(message),
            message=lambda: message,
            unsupported=lambda: "priority" if unsupported else "",
            due=self.clock.wall() + delay if delay else 0.0,
            publish=mode,
        )
        web.kafka.begun.clear()
        joined, handed_over = len(web.pending.joined or ()), web.kafka.handed_over
        try:
            flag = web.dispatcher.flag(SERVICE, task)
            if flag.stage is not Stage.OFF or flag.fence is not None:
                web.bridged.add(call.id)
            elif fences.on_kafka(present := self.database.flag(SERVICE)) or present.fence:
                # At its floor, because the flags were not readable for too long.
                call.placeless = True
            unfenced = web.dispatcher.counters.get(SERVICE, "unfenced")
            web.run(lambda: web.dispatcher.dispatch(flag, outgoing))
            call.placeless |= web.dispatcher.counters.get(SERVICE, "unfenced") > unfenced
        except (TaskbridgeError, OSError):
            call.state = "failed"
        except Crash:
            call.state = "failed"
            self.bury(web)
        else:
            if web.kafka.begun and web.barriers:
                web.barriers[-1][1].append(call)
            elif len(web.pending.joined or ()) > joined:
                web.joined.append(call)
            else:
                self._acknowledge(web, [call])
        alone = mode == "outbox" and not retries
        assert not alone or web.kafka.handed_over == handed_over, f"{call} left before its transaction ended"
        return call

    def _acknowledge(self, web: Web, calls: list[Call]) -> None:
        for call in calls:
            call.state = "acknowledged"
        web.noted += calls

    def bury(self, web: Web, flushed: bool = True) -> None:
        """Let a process be gone for good, and another one come; `flushed`: what its client had may still arrive."""
        self.faults.append(f"{web.name} died")
        if flushed:
            web.kafka.flush()
        web.alive, web.buried = False, True
        for call in [call for _, calls in web.barriers for call in calls] + web.joined:
            call.state = "failed"
        for one, _ in reversed(web.barriers):
            web.run(lambda one=one: one.__exit__(None, None, None))
        self.webs[self.webs.index(web)] = self._web()

    def open_barrier(self, web: Web) -> None:
        """Enter a barrier."""
        one = barrier()
        web.run(one.__enter__)
        web.barriers.append((one, []))

    def close_barrier(self, web: Web) -> None:
        """Leave the innermost barrier."""
        one, calls = web.barriers.pop()
        for call in calls:
            call.state = "failed"
        try:
            web.run(lambda: one.__exit__(None, None, None))
        except TaskbridgeError:
            return
        except Crash:
            self.bury(web)
            return
        self._acknowledge(web, calls)

    def begin(self, web: Web) -> None:
        """Open a transaction of the caller's."""
        web.pending.joined = []

    def end(self, web: Web, commit: bool) -> None:
        """Commit or roll back the caller's transaction."""
        calls, web.joined = web.joined, []
        if not commit:
            web.pending.roll_back()
            for call in calls:
                call.state = "undone"
            return
        for call in calls:
            call.state = "failed"
        try:
            web.pending.commit()
        except TaskbridgeError:
            return
        except Crash:
            self.bury(web)
            return
        self._acknowledge(web, calls)

    def cancel(self, call: Call) -> None:
        """Delete the delayed row of a message, if it is there."""
        if not self.database.available:
            return
        for number, row in list(self.database.rows["delayed"].items()):
            if row.pending.message.task_id == call.id:
                self.database.delete("delayed", number)
                # What a relay had begun to publish when it died may have left.
                noted = any(number in note.ids for note in self.database.notes if note.table == "delayed")
                call.cancelled = self.journal.attempts(call) + noted

    # What a process may do

    def may_decide(self, call: Call) -> set[bool]:
        """Return the decisions (True: Kafka) that a process may make now, by the flags that it may know."""
        now, database = self.clock.now, self.database
        floors: set[bool] = set()
        since = now - self.settings.flag_max_age
        if now - database.unreadable_since > self.settings.flag_stale_after:
            return {False}
        if not database.available or now - database.readable_since < self.settings.flag_max_age:
            since = now - self.settings.flag_stale_after - 1.0
            floors = {False}
        ends = [at for at, _ in database.history[1:]] + [float("inf")]
        known = [flags for (_, flags), end in zip(database.history, ends, strict=True) if end >= since]
        return floors | {self._decision(flags, call) for flags in known}

    def _decision(self, flags: dict[tuple[str, str], Flag], call: Call) -> bool:
        own = flags.get((SERVICE, call.task))
        flag = own if own and not own.cleared else flags.get((SERVICE, "")) or Flag(SERVICE, Stage.OFF)
        return decide(flag, self.bucket(call.key)).kafka

    def judge_kafka(self, process: Sending, topic: str, record: Record) -> None:
        """Check that a process may hand a record over to Kafka's client."""
        task_id = dict(record.headers)["id"].decode()
        call = self.journal.calls[task_id]
        rows = [row for table in self.database.rows.values() for row in table.values()]
        mine = [row for row in rows if row.pending.message.task_id == task_id]
        if isinstance(process, RelayProcess) and any(row.only == "kafka" for row in mine):
            return
        if any(row.only == "celery" for row in mine) and self.database.flag(SERVICE).stage is Stage.COMPLETE:
            return
        assert True in self.may_decide(call), f"{process.name} sends {call} to Kafka, and no flag says so"

    def judge_celery(self, process: Sending, message: Message) -> None:
        """Check that a process may give a message to Celery while nothing is out of order."""
        call = self.journal.calls[message.task_id]
        excused = self.faults or call.unsupported
        assert excused or False in self.may_decide(call), f"{process.name} sends {call} to Celery"

    def _judge_record(self, topic: str, record: Record) -> None:
        route = dict(record.headers)["bridge-route"].decode()
        expected = "kafka" if topic == self.settings.topic(SERVICE) else "celery"
        assert route == expected, f"a record stamped {route} stands in {topic}"

    # Relaying and working

    def run_relay(self, fuse: int | None = None) -> None:
        """Let the relay send what can be sent; with a `fuse` it may die meanwhile, and another one comes."""
        relay = self.relay
        relay.fuse = fuse
        try:
            relay.relay.run(once=True)
        except Crash:
            self.faults.append(f"{relay.name} died")
            relay.kafka.flush()
            self.relay = self._relay()
        relay.fuse = None

    def run_workers(self) -> None:
        """Let all workers do what is there to do, and commit."""
        for worker in self.group.members:
            worker.fetch()
            worker.run_all(lambda worker=worker: worker.busy)
            if not self.kafka.away:
                worker.commit()
        for _ in range(4 * (len(self.celery.queue) + 2)):
            for worker in self.celery_workers:
                worker.step()

    def mend(self) -> None:
        """Bring every server back."""
        self.kafka.climate, self.celery.climate = "calm", "calm"
        self.kafka.weather.clear()
        self.celery.weather.clear()
        self.database.commits.clear()
        self.database.switch(True)

    @property
    def idle(self) -> bool:
        """Whether nothing waits anywhere."""
        left = self.group.unfinished(self.group.ends())
        return self.database.idle and self.celery.empty and not left and not self.database.flag(SERVICE).fence

    def close(self) -> None:
        """Mend everything, let everything come to its end, and check that nothing was lost or is unexplained."""
        self.mend()
        for web in list(self.webs):
            web.fuse = None
            while web.barriers and web.alive:
                self.close_barrier(web)
            if web.pending.joined is not None and web.alive:
                self.end(web, commit=True)
        rounds = 0
        while rounds < 3 or not self.idle:
            rounds += 1
            assert rounds < 60, f"something never ends: {self.database.rows} {self.celery.queue} {self.group.committed}"
            self.sleep(11.0)
            self.run_relay()
            self.run_workers()
        self.journal.close(faultless=not self.faults)
        if self.ordered:
            self.journal.in_order()
        for web in self.webs:
            self._add_up(web)

    def _add_up(self, web: Web) -> None:
        """Check that what a process counted and observed is what it dispatched."""
        rows = web.rows()
        assert web.count() == len(rows), "counters and observations differ"
        ids = [row.id for row in rows]
        assert len(ids) == len(set(ids)), "a dispatch was counted twice"
        told = {call.id for call in web.noted if call.id in web.bridged}
        assert told <= set(ids), f"not counted: {told - set(ids)}"
