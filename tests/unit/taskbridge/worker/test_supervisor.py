"""The loop: records to executors, offsets back to the log, and what happens when either goes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from taskbridge.exceptions import ConfigurationError, PublishAmbiguous
from taskbridge.observation import RunRow
from taskbridge.testing import FakePublisher, RecordingObserver
from taskbridge.worker import supervisor as module
from taskbridge.worker.executors import Executor
from taskbridge.worker.snapshot import Snapshot
from taskbridge.worker.source import Assigned, Fetched
from taskbridge.worker.supervisor import Options, Supervisor
from taskbridge.worker.tracker import decode_runs
from tests.unit.taskbridge.worker import target
from tests.unit.taskbridge.worker.topic import FakeTopic


class World:
    """A supervisor with real processes on a topic in memory."""

    def __init__(self, gates: Path) -> None:
        self.gates = gates
        self.kafka, self.observer = FakePublisher(), RecordingObserver()

    def supervise(
        self,
        topic: FakeTopic,
        processes: int = 1,
        drain_timeout: float = 10.0,
        options: target.Options | None = None,
        ordered: bool = False,
    ) -> Supervisor:
        """Run until the topic's script is over."""
        names = ("orders", "shop.orders", "shop.orders", "shop.orders.dlq", "host:1:a")
        self.supervisor = Supervisor(
            Options(*names, processes, drain_timeout, ordered=ordered),
            topic,
            self.kafka,
            self.observer,
            target.main,
            options or target.Options(self.gates),
        )
        topic.at_end = self.supervisor.stop
        self.supervisor.run()
        return self.supervisor

    def open(self, gate: str) -> None:
        (self.gates / gate).touch()

    def finished(self, count: int) -> Callable[[], bool]:
        return lambda: self.supervisor.finished == count

    def seen(self) -> list[tuple[str, str]]:
        """Return (id, outcome) of each run that was observed, in order of offsets."""
        rows = [row for row in self.observer.rows if isinstance(row, RunRow)]
        return [(row.id, row.outcome) for row in sorted(rows, key=lambda row: (row.partition, row.offset))]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def nothing() -> None:
    """Go on."""


def test_what_is_finished_beyond_a_long_task_is_committed_with_it_and_the_rest_does_not_wait_for_it(
    world: World,
) -> None:
    topic = FakeTopic("gate:a", "ok", "ok", "ok", "ok")
    topic.script.append((lambda: topic.committed.get(0) == (0, "v=1;beyond=1.4"), lambda: world.open("a")))
    topic.script.append((lambda: topic.committed[0] == (5, ""), nothing))
    world.supervise(topic, processes=2)
    assert world.seen() == [(f"0-{offset}", "success") for offset in range(5)]
    watermarks = [offsets[0][0] for offsets, _ in topic.commits]
    assert watermarks == sorted(watermarks)


def test_nothing_is_committed_that_has_not_been_observed(world: World) -> None:
    unobserved: list[object] = []
    delivered: set[int] = set()

    def deliver(_timeout: float) -> bool:
        delivered.update(row.offset for row in world.observer.rows if isinstance(row, RunRow))
        return True

    world.observer.deliver = deliver  # type: ignore[method-assign]
    topic = FakeTopic("ok", "ok", "gate:a", "ok", "ok")
    commit = topic.commit

    def commit_and_look(offsets: Mapping[int, tuple[int, str]], wait: bool) -> None:
        for watermark, metadata in offsets.values():
            finished = set(range(watermark)).union(*(range(*run) for run in decode_runs(watermark, metadata)))
            unobserved.extend(finished - delivered)
        commit(offsets, wait)

    topic.commit = commit_and_look  # type: ignore[method-assign]
    topic.script.append((lambda: topic.committed.get(0, (0, ""))[0] == 2, lambda: world.open("a")))
    topic.script.append((lambda: topic.committed[0] == (5, ""), nothing))
    world.supervise(topic)
    assert unobserved == []
    assert world.seen() == [(f"0-{offset}", "success") for offset in range(5)], "each once"


def test_after_a_restart_what_was_finished_does_not_run_again(world: World) -> None:
    topic = FakeTopic("ok", "ok", "ok", "ok", assigned=[Assigned(0, 0, "v=1;beyond=1.2")])
    topic.script.append((lambda: topic.committed.get(0) == (4, ""), nothing))
    world.supervise(topic)
    assert [name for name, _ in world.seen()] == ["0-0", "0-3"]


def test_a_revoked_partition_is_finished_and_committed_before_it_goes(world: World) -> None:
    topic = FakeTopic("nap:0.2", "ok", "ok")
    topic.script.append((lambda: world.supervisor.finished == 0, nothing))
    topic.script.append((lambda: True, lambda: topic.revoke(0)))
    world.supervise(topic)
    # What ran was waited for; what had not begun is left to whoever has the partition next.
    done = len(world.seen())
    assert done in {1, 2}
    assert topic.commits[-1] == ({0: (done, "")}, True)
    assert world.supervisor.finished == done


def test_a_drain_that_takes_too_long_commits_what_is_finished_and_nothing_else(world: World) -> None:
    topic = FakeTopic("gate:a", "ok", "ok")
    topic.script.append((world.finished(2), lambda: topic.revoke(0)))
    topic.script.append((lambda: True, lambda: world.open("a")))
    topic.script.append((world.finished(3), nothing))
    world.supervise(topic, processes=2, drain_timeout=0.1)
    assert topic.commits[-1] == ({0: (0, "v=1;beyond=1.2")}, True)
    assert topic.committed == {0: (0, "v=1;beyond=1.2")}, "what ends later is not ours to commit"


def test_lost_partitions_are_dropped_and_not_committed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    topic = FakeTopic("gate:a")
    topic.put("ok", "gate:b", partition=1)
    topic.assigned = [Assigned(0, 0, ""), Assigned(1, 0, "")]
    topic.script.append((lambda: topic.committed.get(1) == (1, ""), lambda: topic.lose(0)))
    topic.script.append((lambda: True, lambda: (world.open("a"), world.open("b"))))
    topic.script.append((lambda: topic.committed.get(1) == (2, ""), nothing))
    topic.script.append((world.finished(3), nothing))
    world.supervise(topic, processes=3)
    assert 0 not in topic.committed
    assert "partitions (0,) were taken from this worker" in caplog.text


def test_a_dead_executor_costs_the_record_that_it_ran(world: World, caplog: pytest.LogCaptureFixture) -> None:
    topic = FakeTopic("ok", "die", "ok", "ok")
    topic.script.append((lambda: topic.committed.get(0) == (4, ""), nothing))
    world.supervise(topic)
    [(name, letter)] = world.kafka.records
    found = dict(letter.headers)
    assert (name, found["id"]) == ("shop.orders.dlq", b"0-1")
    assert (found["dlq-reason"], found["dlq-detail"]) == (b"worker_lost", b"lost -9")
    assert world.seen() == [("0-0", "success"), ("0-1", "dead"), ("0-2", "success"), ("0-3", "success")]
    assert "while it ran die at partition 0 offset 1" in caplog.text


def test_a_record_that_kills_its_executor_even_when_its_failure_is_recorded_is_dead_lettered(world: World) -> None:
    topic = FakeTopic("die-twice", "ok")
    topic.script.append((lambda: topic.committed.get(0) == (2, ""), nothing))
    world.supervise(topic)
    [(_, letter)] = world.kafka.records
    assert dict(letter.headers)["dlq-detail"] == b"an executor died while it recorded the failure"
    assert world.seen() == [("0-0", "dead"), ("0-1", "success")]


def test_a_hard_time_limit_kills_and_is_told_apart(world: World) -> None:
    topic = FakeTopic("hang", "ok")
    topic.script.append((lambda: topic.committed.get(0) == (2, ""), nothing))
    world.supervise(topic)
    [(_, letter)] = world.kafka.records
    assert dict(letter.headers)["dlq-detail"] == b"timeout -9"


def test_what_is_to_be_settled_holds_its_offset_until_kafka_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbridge.worker.settling.SETTLE_AGAIN", 0.05)
    topic = FakeTopic("dead", "requeue", "ok")
    world.kafka.error = PublishAmbiguous("no answer")

    def answer_again() -> None:
        world.kafka.error = None

    topic.script.append((lambda: topic.committed.get(0) == (0, "v=1;beyond=2.1"), answer_again))
    topic.script.append((lambda: topic.committed[0] == (3, ""), nothing))
    world.supervise(topic)
    assert [name for name, _ in world.kafka.records] == ["shop.orders.dlq", "shop.orders"]


def test_a_full_buffer_pauses_and_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUFFER_RECORDS", 3)
    monkeypatch.setattr(module, "PAUSE_AFTER", 0.02)
    topic = FakeTopic("gate:a", *["ok"] * 20)
    topic.script.append((lambda: topic.paused == {0}, lambda: world.open("a")))
    topic.script.append((lambda: topic.committed.get(0) == (21, ""), nothing))
    world.supervise(topic)
    assert [name for name, _ in topic.calls][:2] == ["pause", "resume"]
    assert not topic.paused
    assert len(world.seen()) == 21


def test_a_partition_is_fetched_no_further_than_its_metadata_can_tell(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbridge.worker.offsets.METADATA_LIMIT", len("v=1;beyond=1.1"))
    topic = FakeTopic("gate:a", "ok")
    topic.script.append((lambda: topic.paused == {0}, lambda: topic.put("ok")))
    topic.script.append((lambda: True, lambda: world.open("a")))
    topic.script.append((lambda: topic.committed.get(0) == (3, ""), nothing))
    world.supervise(topic, processes=2)
    assert topic.calls == [("pause", [0]), ("resume", [0])]


def test_a_partition_without_a_committed_offset_is_not_guessed_at(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    topic = FakeTopic("ok", "ok")
    topic.put("ok", partition=1)
    topic.assigned = [Assigned(0, -1, ""), Assigned(1, 0, "")]
    topic.script.append((lambda: topic.committed.get(1) == (1, ""), nothing))
    world.supervise(topic)
    assert world.seen() == [("1-0", "success")]
    assert 0 not in topic.committed
    assert "shop.orders partition 0 is not consumed" in caplog.text
    assert "run `taskbridge topics`" in caplog.text


def test_a_commit_that_failed_is_repeated(world: World) -> None:
    topic = FakeTopic("ok")
    topic.failing = True

    def answer_again() -> None:
        topic.failing = False

    topic.script.append((lambda: len(topic.commits) >= 2, answer_again))
    topic.script.append((lambda: topic.committed.get(0) == (1, ""), nothing))
    world.supervise(topic)
    assert [offsets for offsets, _ in topic.commits[:2]] == [{0: (1, "")}, {0: (1, "")}]


def test_a_last_commit_that_fails_is_said_and_ends_the_worker_in_order(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    topic = FakeTopic("ok")
    topic.failing = True
    topic.script.append((world.finished(1), nothing))
    world.supervise(topic)
    assert "will run again: the offsets could not be committed" in caplog.text


def test_a_hurried_end_cuts_off_what_runs(world: World) -> None:
    topic = FakeTopic("gate:never")
    topic.script.append((lambda: True, lambda: world.supervisor.hurry()))  # noqa: PLW0108 - it is not there yet
    world.supervise(topic)
    assert world.supervisor.finished == 0
    assert all(offsets[0][0] == 0 for offsets, _ in topic.commits)


def test_why_the_application_cannot_be_loaded_is_the_workers_own_error(world: World) -> None:
    topic = FakeTopic()
    with pytest.raises(ConfigurationError, match=r"^no module named shop$"):
        world.supervise(topic, options=target.Options(world.gates, failure="no module named shop"))
    assert topic.commits == []


def test_executors_that_die_while_they_start_end_the_worker(world: World) -> None:
    with pytest.raises(ConfigurationError, match=r"3 executors in a row died .* \(exit status 7\)"):
        world.supervise(FakeTopic(), options=target.Options(world.gates, exit_at_start=7))


def test_stop_says_how_long_running_tasks_have(world: World, caplog: pytest.LogCaptureFixture) -> None:
    topic = FakeTopic("nap:0.1")
    with caplog.at_level(logging.INFO):
        world.supervise(topic, drain_timeout=9.0)
    assert "9 s to finish" in caplog.text
    assert topic.committed in ({0: (1, "")}, {})


def in_time(world: World) -> list[str]:
    """Return the ids of runs in the order in which they began."""
    rows = [row for row in world.observer.rows if isinstance(row, RunRow)]
    return [row.id for row in sorted(rows, key=lambda row: row.started)]


def test_ordered_records_of_a_key_run_one_at_a_time_while_other_keys_go_on(world: World) -> None:
    topic = FakeTopic("gate:a", "ok", "ok")
    topic.put("ok", "ok", partition=1)
    topic.assigned = [Assigned(0, 0, ""), Assigned(1, 0, "")]
    # The records of another partition are another key's: they do not wait.
    topic.script.append((lambda: topic.committed.get(1) == (2, ""), lambda: world.open("a")))
    topic.script.append((lambda: topic.committed.get(0) == (3, ""), nothing))
    world.supervise(topic, processes=3, ordered=True)
    rows = [row for row in world.observer.rows if isinstance(row, RunRow) and row.partition == 0]
    turns = sorted(rows, key=lambda row: row.started)
    assert [row.id for row in turns] == ["0-0", "0-1", "0-2"]
    assert all(before.finished <= after.started for before, after in pairwise(turns))


def test_an_ordered_record_whose_executor_died_is_settled_before_the_next_of_its_key(world: World) -> None:
    topic = FakeTopic("ok", "die", "ok", "ok")
    topic.script.append((lambda: topic.committed.get(0) == (4, ""), nothing))
    world.supervise(topic, processes=2, ordered=True)
    # Each observed once, the dead one as dead, and what came behind it after it.
    assert [name for name in in_time(world) if name != "0-1"] == ["0-0", "0-2", "0-3"]
    assert ("0-1", "dead") in world.seen()


def test_an_ordered_record_that_is_given_back_runs_again_in_its_place(world: World) -> None:
    topic = FakeTopic("requeue-once", "ok", "ok")
    topic.script.append((lambda: topic.committed.get(0) == (3, ""), nothing))
    world.supervise(topic, processes=2, ordered=True)
    assert world.kafka.records == [], "it is not put at the end of the topic"
    ran = in_time(world)
    assert ran.index("0-1") < ran.index("0-2")
    assert ran.count("0-0") == 2
    assert ran[:2] == ["0-0", "0-0"]


def test_idle_executors_do_not_make_the_loop_spin_while_a_key_is_busy(world: World) -> None:
    topic = FakeTopic("gate:a", "ok")
    patient: list[float] = []
    poll = topic.poll

    def watch(timeout: float, most: int) -> list[Fetched]:
        patient.append(timeout)
        return poll(timeout, most)

    topic.poll = watch  # type: ignore[method-assign]
    topic.script.append((lambda: len(patient) > 50, lambda: world.open("a")))
    topic.script.append((lambda: topic.committed.get(0) == (2, ""), nothing))
    world.supervise(topic, processes=2, ordered=True)
    assert sum(timeout > 0 for timeout in patient) > 40


def test_what_others_see_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskbridge.worker.lookout.INTERVAL", 0.0)
    topic = FakeTopic("ok", "ok", "dead", "die", "requeue-once", "gate:a", "ok")
    seen: list[Snapshot] = []

    def at(finished: int, held: bool) -> bool:
        now = world.supervisor.snapshot
        if (now.finished, now.held > 0) != (finished, held):
            return False
        seen.append(now)
        return True

    topic.script.append((lambda: at(5, held=True), lambda: world.open("a")))
    topic.script.append((lambda: world.supervisor.snapshot.commits and at(7, held=False), nothing))
    world.supervise(topic)
    waiting, ended = seen
    assert {task: run.count for (task, outcome), run in ended.runs.items() if outcome == "success"} == {
        "ok": 3,
        "gate": 1,
    }
    assert sum(ended.durations) == 4
    assert ended.dead_letters == {"rejected": 1, "worker_lost": 1}
    assert (ended.given_back, ended.unsettled) == (1, 0)
    assert ended.deaths == {"lost": 1}
    assert sum(ended.executors.values()) == 1
    assert waiting.executors["busy"] == 1
    assert waiting.held + waiting.buffered == 2
    [partition] = waiting.partitions
    assert (partition.partition, partition.lag, partition.paused) == (0, 2, False)
    assert 0.0 < partition.behind < 90.0
    [partition] = ended.partitions
    assert (partition.lag, partition.behind) == (0, 0.0)
    assert ended.failed_commits == 0


def test_it_has_joined_once_it_was_told_its_partitions_even_if_these_are_none(world: World) -> None:
    topic = FakeTopic(assigned=[])
    joined: list[bool] = []
    topic.script.append((lambda: joined.append(world.supervisor.joined) is None, nothing))
    world.supervise(topic)
    assert joined == [True]


def test_a_loop_that_turns_says_so_also_while_it_waits_for_what_runs(world: World) -> None:
    topic = FakeTopic("gate:a")
    times: list[float] = []

    def going_on() -> bool:
        times.append(world.supervisor.turned_at)
        return len(set(times)) >= 3

    receive = Executor.receive

    def receive_and_look(self: Executor) -> list[tuple[object, ...]]:
        if world.supervisor._stopping and going_on():
            world.open("a")
        return receive(self)

    topic.script.append((going_on, nothing))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Executor, "receive", receive_and_look)
        topic.script.append((lambda: times.clear() is None, nothing))
        world.supervise(topic)
    assert len(set(times)) >= 3
    assert times == sorted(times)


def test_how_busy_it_is_is_committed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskbridge.worker.lookout.INTERVAL", 0.0)
    topic = FakeTopic("gate:a", assigned=[Assigned(0, 0, ""), Assigned(1, 0, "")])
    topic.script.append((lambda: (topic.busy.get(1) or 0.0) > 0.5, lambda: world.open("a")))
    topic.script.append((lambda: topic.committed.get(0) == (1, "") and topic.busy[1] is not None, nothing))
    world.supervise(topic)
    assert topic.committed == {0: (1, ""), 1: (0, "")}
