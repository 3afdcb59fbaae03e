"""The rules by which hypothesis plays with a world, and the machines made of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from taskbridge.cutover import RUNGS, Stage
from tests.unit.machine.workers import EXECUTORS
from tests.unit.machine.world import DELAYED, PAY, PLACE, Web, World

KEYS = st.sampled_from([f"k{number}" for number in range(6)])
FUSES = st.integers(0, 7)
WAY = ((Stage.OFF, 0), (Stage.MIRROR, 0), (Stage.LIVE, 5_000), (Stage.LIVE, 10_000), (Stage.COMPLETE, 0))
"""Where a service passes, in brief."""

STAGES = st.one_of(
    st.sampled_from(WAY[2:]),
    st.sampled_from(WAY[2:]),
    st.sampled_from(WAY),
    st.tuples(st.sampled_from([Stage.SHADOW, Stage.LIVE]), st.sampled_from(RUNGS)),
)
SECONDS = st.sampled_from([0.1, 0.6, 1.0, 1.1, 5.1, 11.0, DELAYED])
NUMBERS = st.integers(0, 1)

WEATHER = st.lists(st.sampled_from(["doubts", "doubts", "swallows", "refuses", "full", "calm"]), min_size=1, max_size=4)
CELERY_WEATHER = st.lists(st.sampled_from(["calm", "doubts", "away"]), min_size=1, max_size=3)
TROUBLE = st.one_of(
    st.tuples(st.just("kafka"), WEATHER),
    st.tuples(st.just("kafka climate"), st.sampled_from(["away", "refuses"])),
    st.tuples(st.just("celery"), CELERY_WEATHER),
    st.tuples(st.just("celery climate"), st.just("away")),
    st.tuples(st.just("commits"), st.lists(st.sampled_from(["calm", "doubts", "fails"]), min_size=1, max_size=3)),
    st.tuples(st.just("database"), st.just("away")),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["fetch", "start", "end", "commit", "celery"]), NUMBERS, st.integers(0, EXECUTORS - 1)),
    min_size=1,
    max_size=6,
)


class Common(RuleBasedStateMachine):
    """What both machines may do."""

    ordered = False

    def __init__(self) -> None:
        super().__init__()
        self.world = World(ordered=self.ordered)

    @initialize(steps=st.sampled_from([4, 4, 4, 3, 5, 2, 1]))
    def begin_at(self, steps: int) -> None:
        for stage, points in WAY[1:steps]:
            # Longer than any process goes by an old flag.
            self.world.sleep(11.0)
            assert self.world.move(stage, points)
        self.world.sleep(11.0)

    def teardown(self) -> None:
        self.world.close()

    def web(self, number: int) -> Web:
        return self.world.webs[number]

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.world.sleep(seconds)

    @rule(to=STAGES)
    def move(self, to: tuple[Stage, int]) -> None:
        self.world.move(*to)

    @rule(action=st.sampled_from(["kill", "hold", "release"]))
    def intervene(self, action: str) -> None:
        self.world.move(action=action)

    @rule(trouble=TROUBLE)
    def trouble(self, trouble: tuple[str, Any]) -> None:
        kind, what = trouble
        world = self.world
        world.faults.append(kind)
        match kind:
            case "kafka":
                world.kafka.weather.extend(what)
            case "kafka climate":
                world.kafka.climate = what
            case "celery":
                world.celery.weather.extend(what)
            case "celery climate":
                world.celery.climate = what
            case "commits":
                world.database.commits[:] = what
            case "database":
                world.database.switch(False)

    @rule()
    def mend(self) -> None:
        self.world.mend()

    @rule()
    def relay(self) -> None:
        self.world.run_relay()

    @rule(fuse=FUSES)
    def relay_dies(self, fuse: int) -> None:
        self.world.run_relay(fuse)

    @rule()
    def work(self) -> None:
        self.world.run_workers()

    @rule(steps=STEPS)
    def work_a_little(self, steps: list[tuple[str, int, int]]) -> None:
        for what, number, executor in steps:
            worker = self.world.group.members[number]
            match what:
                case "fetch":
                    worker.fetch()
                case "start":
                    worker.start(executor)
                case "end":
                    worker.finish(executor)
                case "commit" if not self.world.kafka.away:
                    worker.commit()
                case "celery":
                    workers = self.world.celery_workers
                    workers[number % len(workers)].step()

    @rule(member=NUMBERS)
    def replace_worker(self, member: int) -> None:
        if not self.world.kafka.away:
            self.world.group.leave(self.world.group.members[member], gently=True)

    @rule(who=st.sampled_from(["executor", "worker", "celery worker"]), number=NUMBERS, executor=NUMBERS)
    def worker_dies(self, who: str, number: int, executor: int) -> None:
        world = self.world
        world.faults.append(who)
        match who:
            case "executor":
                world.group.members[number].kill(executor)
            case "worker":
                world.group.leave(world.group.members[number], gently=False)
            case "celery worker":
                world.celery_workers[number % len(world.celery_workers)].die()


MESSAGE = st.fixed_dictionaries(
    {
        "key": KEYS,
        "task": st.sampled_from([PLACE, PLACE, PAY]),
        "mode": st.sampled_from(["confirm", "barrier", "outbox"]),
        "once": st.booleans(),
        "delay": st.sampled_from([0.0, 0.0, 0.0, DELAYED]),
        "retries": st.sampled_from([0, 0, 0, 1]),
        "unsupported": st.sampled_from([False] * 7 + [True]),
    }
)
MESSAGES = st.lists(MESSAGE, min_size=1, max_size=4)


class Machine(Common):
    """One service that does not keep an order: every mode, flags of single tasks, every fault."""

    @rule(number=NUMBERS, messages=MESSAGES)
    def dispatch(self, number: int, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            self.world.dispatch(self.web(number), **message)

    @rule(number=NUMBERS, messages=MESSAGES, weather=WEATHER)
    def dispatch_in_bad_weather(self, number: int, messages: list[dict[str, Any]], weather: list[Any]) -> None:
        self.trouble(("kafka", weather))
        self.dispatch(number, messages)

    @rule(number=NUMBERS, message=MESSAGE, fuse=FUSES)
    def dispatch_and_die(self, number: int, message: dict[str, Any], fuse: int) -> None:
        web = self.web(number)
        web.fuse = fuse
        self.world.dispatch(web, **message)
        web.fuse = None

    @rule(number=NUMBERS, message=MESSAGE, steps=st.integers(0, 4), to=STAGES)
    def dispatch_while_the_flag_moves(self, number: int, message: dict[str, Any], steps: int, to: Any) -> None:
        web = self.web(number)
        web.interlude = (steps, lambda: self.world.move(*to) and None)
        self.world.dispatch(web, **message)
        web.interlude = None

    @rule(number=NUMBERS, messages=MESSAGES)
    def dispatch_in_a_barrier(self, number: int, messages: list[dict[str, Any]]) -> None:
        self.world.open_barrier(self.web(number))
        self.dispatch(number, [message | {"mode": "barrier"} for message in messages])

    @precondition(lambda self: any(web.barriers for web in self.world.webs))
    @rule(fuse=st.one_of(st.just(99), FUSES))
    def close_barrier(self, fuse: int) -> None:
        web = next(web for web in self.world.webs if web.barriers)
        web.fuse = fuse
        self.world.close_barrier(web)
        web.fuse = None

    @rule(number=NUMBERS, messages=MESSAGES, weather=WEATHER, celery=CELERY_WEATHER)
    def leave_a_barrier_in_bad_weather(
        self, number: int, messages: list[dict[str, Any]], weather: list[Any], celery: list[Any]
    ) -> None:
        self.dispatch_in_a_barrier(number, messages)
        self.trouble(("kafka", weather))
        self.trouble(("celery", celery))
        self.close_barrier(99)

    @rule(number=NUMBERS, messages=MESSAGES)
    def dispatch_in_a_transaction(self, number: int, messages: list[dict[str, Any]]) -> None:
        web = self.web(number)
        if web.pending.joined is None:
            self.world.begin(web)
        self.dispatch(number, [message | {"mode": "outbox"} for message in messages])

    @precondition(lambda self: any(web.pending.joined is not None for web in self.world.webs))
    @rule(commit=st.booleans(), fuse=st.one_of(st.just(99), FUSES))
    def end_transaction(self, commit: bool, fuse: int) -> None:
        web = next(web for web in self.world.webs if web.pending.joined is not None)
        web.fuse = fuse
        self.world.end(web, commit)
        web.fuse = None

    @rule(to=st.one_of(st.none(), STAGES))
    def move_task(self, to: tuple[Stage, int] | None) -> None:
        if to is None:
            self.world.move(action="clear", task=PAY)
        else:
            self.world.move(*to, task=PAY)

    @precondition(lambda self: self.world.database.rows["delayed"])
    @rule(number=st.integers(0, 20))
    def cancel(self, number: int) -> None:
        rows = list(self.world.database.rows["delayed"].values())
        task_id = rows[number % len(rows)].pending.message.task_id
        self.world.cancel(self.world.journal.calls[task_id])

    @rule()
    def partitions_are_lost(self) -> None:
        world = self.world
        world.faults.append("lost partitions")
        world.group.members.reverse()
        world.group.rebalance(gently=False)


class OrderedMachine(Common):
    """One service that keeps the order of each key, also while keys change side."""

    ordered = True

    @rule(number=NUMBERS, keys=st.lists(KEYS, min_size=1, max_size=6), delay=st.sampled_from([0.0] * 7 + [DELAYED]))
    def dispatch(self, number: int, keys: list[str], delay: float) -> None:
        for key in keys:
            self.world.dispatch(self.web(number), key=key, delay=delay)

    @rule(number=NUMBERS, key=KEYS, fuse=FUSES)
    def dispatch_and_die(self, number: int, key: str, fuse: int) -> None:
        web = self.web(number)
        web.fuse = fuse
        self.world.dispatch(web, key=key)
        web.fuse = None

    @rule(number=NUMBERS, key=KEYS, steps=st.integers(0, 4), to=STAGES)
    def dispatch_while_the_flag_moves(self, number: int, key: str, steps: int, to: Any) -> None:
        web = self.web(number)
        web.interlude = (steps, lambda: self.world.move(*to) and None)
        self.world.dispatch(web, key=key)
        web.interlude = None

    @rule(to=st.lists(st.sampled_from([(Stage.LIVE, 5_000), (Stage.LIVE, 10_000)]), min_size=1, max_size=3))
    def flip(self, to: list[tuple[Stage, int]]) -> None:
        """Move, and let work go on between."""
        for stage, points in to:
            self.world.move(stage, points)
            for key in ("k0", "k3", "k0"):
                self.world.dispatch(key=key)
            self.world.sleep(1.0)
            self.world.run_relay()
