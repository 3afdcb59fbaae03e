"""Bodies that run once, through Celery's own tracer, with a ledger in memory."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from celery import states
from celery.app.trace import build_tracer
from celery.canvas import chain, chord, group
from celery.exceptions import Ignore, Reject, Retry
from kombu.utils.json import dumps, loads

from taskbridge import TaskOptions
from taskbridge.adapters.celery.bodies import wrap_bodies
from taskbridge.adapters.celery.once import Ending, Once, once_of, pin_callbacks
from taskbridge.exceptions import ConfigurationError, StoreUnavailable
from taskbridge.record import Identity
from tests.unit.taskbridge.adapters.celery.ledgers import FakeLedger

ID = Identity("id-1", 0, 0)


class Scene:
    """An app with one task, whose body does what it is told and leaves one effect."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.ledger = FakeLedger()
        self.now = 0.0
        self.pauses: list[float] = []
        self.once = Once(self.ledger, 60.0, clock=lambda: self.now, sleep=self._sleep)
        self.calls = 0
        self.act: Any = lambda _: "done"

        @app.task(name="orders.once", bind=True, shared=False, bridge=TaskOptions(once=True), max_retries=5)
        def body(task: Any, *args: Any) -> Any:
            self.calls += 1
            self.ledger.effects.append(f"effect {self.calls}")
            return self.act(task)

        app.finalize()
        # The backend in memory is all apps' own.
        app.backend.forget("id-1")
        self.task = app.tasks["orders.once"]
        wrap_bodies(app, "here", lambda _: self.once, in_barrier=False)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def deliver(self, **request: Any) -> Any:
        """Trace one message as a worker does; return (state or None, value or exception)."""
        request = {"id": "id-1", "delivery_info": {}, "is_eager": False, **request}
        retval, info, _, _ = build_tracer(self.task.name, self.task, app=self.app)(request["id"], [], {}, request)
        if info is None:
            return None, retval
        return info.state, info.retval


@pytest.fixture
def scene(app: Any) -> Scene:
    return Scene(app)


def test_a_second_delivery_repeats_the_result_and_not_the_body(scene: Scene) -> None:
    value = {"id": UUID(int=7), "price": Decimal("1.10"), "parts": [1, None]}
    scene.act = lambda _: value
    assert scene.deliver() == (None, value)
    assert once_of(scene.task, ID) == 1
    scene.app.backend.forget("id-1")
    assert scene.deliver() == (None, value)
    assert once_of(scene.task, ID) == 2
    assert (scene.calls, scene.ledger.effects) == (1, ["effect 1"])
    assert scene.app.AsyncResult("id-1").state == states.SUCCESS


def test_a_failure_is_undone_and_repeated(scene: Scene) -> None:
    def fail(_: Any) -> None:
        raise KeyError("gone", 3)

    scene.act = fail
    for _ in range(2):
        state, error = scene.deliver()
        assert (state, type(error), error.args) == (states.FAILURE, KeyError, ("gone", 3))
    assert (scene.calls, scene.ledger.effects) == (1, [])


def test_a_retry_is_sent_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(scene.app, "send_task", lambda *_, **options: sent.append(options))

    def again(task: Any) -> None:
        raise task.retry(countdown=5, exc=ValueError("later"))

    scene.act = again
    for _ in range(2):
        state, error = scene.deliver()
        assert (state, type(error), str(error.exc), error.when) == (states.RETRY, Retry, "later", 5)
    assert (scene.calls, len(sent), scene.ledger.effects) == (1, 1, [])


def test_a_repeated_retry_leaves_the_state_of_a_later_attempt_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.app, "send_task", lambda *_, **__: None)

    def act(task: Any) -> str:
        if task.request.retries == 0:
            raise task.retry(countdown=5)
        return "done"

    scene.act = act
    assert scene.deliver()[0] == states.RETRY
    assert scene.deliver(retries=1) == (None, "done")
    assert scene.deliver()[0] == states.IGNORED
    assert scene.app.AsyncResult("id-1").result == "done"
    assert scene.calls == 2


def test_what_a_task_did_before_it_ignored_itself_stands(scene: Scene) -> None:
    def ignore(_: Any) -> None:
        raise Ignore("enough")

    scene.act = ignore
    for _ in range(2):
        state, error = scene.deliver()
        assert (state, error.args) == (states.IGNORED, ("enough",))
    assert (scene.calls, scene.ledger.effects) == (1, ["effect 1"])


def test_a_rejected_message_is_rejected_again(scene: Scene) -> None:
    def reject(_: Any) -> None:
        raise Reject("not for me")

    scene.act = reject
    for _ in range(2):
        state, error = scene.deliver()
        assert (state, error.reason, error.requeue) == (states.REJECTED, "not for me", False)
    assert (scene.calls, scene.ledger.effects) == (1, [])


def test_what_is_given_back_runs_again(scene: Scene) -> None:
    def give_back(_: Any) -> None:
        raise Reject("later", requeue=True)

    scene.act = give_back
    assert scene.deliver()[0] == states.REJECTED
    scene.act = lambda _: "done"
    assert scene.deliver() == (None, "done")
    assert (scene.calls, scene.ledger.effects) == (2, ["effect 2"])


def test_a_process_that_is_told_to_end_leaves_the_task_to_another(scene: Scene) -> None:
    def leave(_: Any) -> None:
        raise SystemExit(3)

    scene.act = leave
    with pytest.raises(SystemExit):
        scene.deliver()
    scene.act = lambda _: "done"
    assert scene.deliver() == (None, "done")
    assert scene.ledger.effects == ["effect 2"]


def test_retries_and_replacements_are_executions_of_their_own(scene: Scene) -> None:
    for request in ({}, {"retries": 1}, {"replaced_task_nesting": 1}):
        assert scene.deliver(**request) == (None, "done")
    assert scene.calls == 3


def test_what_json_cannot_express_is_refused_before_it_takes_effect(scene: Scene) -> None:
    scene.act = lambda _: object()
    state, error = scene.deliver()
    assert (state, type(error)) == (states.FAILURE, ConfigurationError)
    assert "task orders.once asks for once=True and returned object" in str(error)
    assert scene.ledger.effects == []


def test_a_durable_block_is_refused(scene: Scene) -> None:
    def durable(_: Any) -> None:
        raise RuntimeError("A durable atomic block cannot be nested within another atomic block.")

    scene.act = durable
    state, error = scene.deliver()
    assert state == states.FAILURE
    assert str(error).startswith("task orders.once asks for once=True, so its body runs in a transaction")


def test_another_runtime_error_is_the_task_s_own(scene: Scene) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("mine")

    scene.act = fail
    state, error = scene.deliver()
    assert (state, type(error), str(error)) == (states.FAILURE, RuntimeError, "mine")


def test_whoever_lost_his_claim_repeats_what_the_other_ended_with(scene: Scene) -> None:
    def overtaken(_: Any) -> str:
        scene.ledger.take_over(ID, Ending("success", dumps("the other's").encode()))
        return "mine"

    scene.act = overtaken
    assert scene.deliver() == (None, "the other's")
    assert (scene.calls, scene.ledger.effects) == (1, [])
    assert once_of(scene.task, ID) == 2


def test_whoever_lost_his_claim_to_one_that_died_runs_it_again(scene: Scene) -> None:
    def overtaken(_: Any) -> str:
        if scene.calls == 1:
            scene.ledger.take_over(ID)
        return "mine"

    scene.act = overtaken
    assert scene.deliver() == (None, "mine")
    assert (scene.calls, scene.ledger.effects) == (2, ["effect 2"])


def test_a_failure_without_the_claim_does_not_count(scene: Scene) -> None:
    def overtaken(_: Any) -> str:
        scene.ledger.take_over(ID, Ending("success", b'"other"'))
        raise ValueError("mine")

    scene.act = overtaken
    assert scene.deliver() == (None, "other")


def test_a_commit_of_which_nobody_heard_counts(scene: Scene) -> None:
    scene.ledger.commit_error = ConnectionError("the server went away")
    assert scene.deliver() == (None, "done")
    assert scene.ledger.effects == ["effect 1"]
    assert once_of(scene.task, ID) == 1


def test_a_failure_that_cannot_be_recorded_is_still_the_task_s(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.ledger.record_error = StoreUnavailable("away")

    def fail(_: Any) -> None:
        raise KeyError("gone")

    scene.act = fail
    assert scene.deliver()[0] == states.FAILURE
    assert "the failure of task orders.once[id-1] was not recorded: away" in caplog.text
    assert scene.ledger.endings == {}


def test_a_claim_is_waited_for_with_growing_pauses(scene: Scene) -> None:
    scene.ledger.busy = 8
    assert scene.deliver() == (None, "done")
    assert len(scene.pauses) == 8
    assert all(0 < pause <= 1.0 for pause in scene.pauses)
    assert scene.pauses[-1] > scene.pauses[0]


def test_a_database_that_comes_back_is_waited_for(scene: Scene) -> None:
    scene.ledger.away = 5
    assert scene.deliver() == (None, "done")


def test_a_database_that_stays_away_fails_the_task_before_its_body(scene: Scene) -> None:
    scene.ledger.away = 10_000
    state, error = scene.deliver()
    assert (state, type(error), scene.calls) == (states.FAILURE, StoreUnavailable, 0)
    assert scene.now > 60.0


@pytest.mark.parametrize(
    ("request_limit", "task_limit", "lease"), [(None, None, 60.0), ([90, None], None, 90.0), (None, 300, 300.0)]
)
def test_the_lease_is_as_long_as_the_hard_time_limit(
    scene: Scene, request_limit: Any, task_limit: Any, lease: float
) -> None:
    scene.task.time_limit = task_limit
    scene.deliver(timelimit=request_limit)
    assert scene.ledger.leases == [lease]


def test_a_call_without_a_message_is_as_plain_as_ever(scene: Scene) -> None:
    scene.act = lambda _: len(scene.ledger.endings)
    assert scene.task() == 0
    assert scene.task.run() == 0
    assert scene.task.apply().get() == 0
    scene.app.conf.task_always_eager = True
    assert scene.task.delay().get() == 0
    assert (scene.calls, scene.ledger.tokens) == (4, {})


def test_a_body_may_call_itself(scene: Scene) -> None:
    scene.act = lambda task: task.run() if scene.calls < 3 else scene.calls
    assert scene.deliver() == (None, 3)
    assert scene.ledger.tokens == {ID: 1}


def test_callbacks_have_the_same_ids_whenever_an_end_is_repeated(scene: Scene, app: Any) -> None:
    add = app.tasks["orders.place"]
    callbacks = [
        add.s(1),
        add.s(2).set(task_id="given"),
        group(add.s(3), add.s(4)),
        chain(add.s(5), add.s(6)),
        chord([add.s(7)], add.s(8)),
    ]

    def ids() -> list[str]:
        request = SimpleNamespace(callbacks=loads(dumps(callbacks)), errbacks=None)
        pin_callbacks(request, ID)
        return sorted(_ids(request.callbacks))

    first = ids()
    assert first == ids()
    assert len(set(first)) == len(first) >= 11
    assert "given" in first


def _ids(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["task_id"]] if "task_id" in value else []
        return own + [one for inner in value.values() for one in _ids(inner)]
    return [one for inner in value for one in _ids(inner)] if isinstance(value, list) else []


def test_a_callback_is_sent_under_one_id_though_its_end_is_repeated(scene: Scene, bridged: Any, app: Any) -> None:
    link = [loads(dumps(app.tasks["orders.place"].s(7)))]
    for _ in range(2):
        scene.deliver(callbacks=loads(dumps(link)))
    sent = [message["headers"]["id"] for message in bridged.broker()]
    assert len(sent) == 2
    assert len(set(sent)) == 1
