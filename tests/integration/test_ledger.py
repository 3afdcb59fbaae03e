"""The ledger in PostgreSQL: claims, leases, fencing, and one transaction for effects and ending."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections, transaction

from taskbridge.adapters.celery.once import Claim, Ending
from taskbridge.contrib.django.ledger import DjangoLedger
from taskbridge.contrib.django.session import Sessions
from taskbridge.exceptions import LeaseLost
from taskbridge.record import Identity

DONE = Ending("success", b'"done"')
FAILED = Ending("failure", b"{}")


@pytest.fixture
def ledger(alias: str) -> Iterator[DjangoLedger]:
    sessions = Sessions(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS effect (id text)")
        cursor.execute("TRUNCATE effect")
    yield DjangoLedger(sessions)
    sessions.close()


@pytest.fixture
def identity() -> Identity:
    return Identity(str(uuid4()), 0, 0)


def execute(alias: str, statement: str, *parameters: Any) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def effects(alias: str) -> list[str]:
    return sorted(row[0] for row in execute(alias, "SELECT id FROM effect"))


def claimed(ledger: DjangoLedger, identity: Identity, lease: float = 60.0) -> Claim:
    claim = ledger.claim(identity, "orders.place", lease)
    assert isinstance(claim, Claim)
    return claim


class Elsewhere:
    """A body that runs in another thread, with a connection of its own, until it is told to go on."""

    def __init__(self, ledger: DjangoLedger, alias: str, claim: Claim, ending: Ending | None) -> None:
        self.error: BaseException | None = None
        self._begun, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ledger, alias, claim, ending))
        self._thread.start()
        assert self._begun.wait(60)

    def _run(self, ledger: DjangoLedger, alias: str, claim: Claim, ending: Ending | None) -> None:
        try:
            with ledger.transaction(claim):
                execute(alias, "INSERT INTO effect VALUES ('elsewhere')")
                self._begun.set()
                assert self._go.wait(60)
                assert ending is not None, "it dies here"
                ledger.finish(claim, ending)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            self._begun.set()
            connections[alias].close()

    def go_on(self) -> None:
        self._go.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_effects_and_ending_are_committed_together(ledger: DjangoLedger, alias: str, identity: Identity) -> None:
    claim = claimed(ledger, identity)
    with ledger.transaction(claim):
        execute(alias, "INSERT INTO effect VALUES ('mine')")
        ledger.finish(claim, DONE)
    assert effects(alias) == ["mine"]
    assert ledger.claim(identity, "orders.place", 60.0) == DONE


def test_neither_is_there_when_the_body_raises(ledger: DjangoLedger, alias: str, identity: Identity) -> None:
    claim = claimed(ledger, identity)

    def body() -> None:
        with ledger.transaction(claim):
            execute(alias, "INSERT INTO effect VALUES ('mine')")
            ledger.finish(claim, DONE)
            raise KeyError

    with pytest.raises(KeyError):
        body()
    assert effects(alias) == []
    assert ledger.record(claim, FAILED) == FAILED
    assert ledger.claim(identity, "orders.place", 60.0) == FAILED


def test_what_runs_elsewhere_is_not_claimed(ledger: DjangoLedger, alias: str, identity: Identity) -> None:
    body = Elsewhere(ledger, alias, claimed(ledger, identity), DONE)
    try:
        assert ledger.claim(identity, "orders.place", 60.0) is None
        assert isinstance(ledger.claim(identity._replace(retries=1), "orders.place", 60.0), Claim)
        assert isinstance(ledger.claim(identity._replace(nesting=1), "orders.place", 60.0), Claim)
    finally:
        body.go_on()
    assert body.error is None
    assert ledger.claim(identity, "orders.place", 60.0) == DONE
    assert effects(alias) == ["elsewhere"]


def test_what_died_is_claimed_at_once_whatever_its_lease(ledger: DjangoLedger, alias: str, identity: Identity) -> None:
    body = Elsewhere(ledger, alias, claimed(ledger, identity, 3600.0), None)
    body.go_on()
    assert claimed(ledger, identity) == Claim(identity, 2)
    assert effects(alias) == []


def test_whoever_was_overtaken_before_he_began_does_not_begin(ledger: DjangoLedger, identity: Identity) -> None:
    slow = claimed(ledger, identity)
    fast = claimed(ledger, identity)
    assert (slow.token, fast.token) == (1, 2)
    with pytest.raises(LeaseLost), ledger.transaction(slow):
        pytest.fail("the body began")
    with ledger.transaction(fast):
        ledger.finish(fast, DONE)


def test_a_lease_that_ended_is_taken_over_from_whoever_still_runs(
    ledger: DjangoLedger, alias: str, identity: Identity
) -> None:
    body = Elsewhere(ledger, alias, claimed(ledger, identity, 0.001), DONE)
    try:
        claim = claimed(ledger, identity)
        assert claim == Claim(identity, 2, forced=True)
        with ledger.transaction(claim):
            execute(alias, "INSERT INTO effect VALUES ('mine')")
            ledger.finish(claim, DONE)
    finally:
        body.go_on()
    assert isinstance(body.error, LeaseLost)
    assert effects(alias) == ["mine"]


def test_a_failure_of_whoever_was_overtaken_is_not_recorded(ledger: DjangoLedger, identity: Identity) -> None:
    slow = claimed(ledger, identity)
    claimed(ledger, identity)
    with pytest.raises(LeaseLost):
        ledger.record(slow, FAILED)


def test_a_failure_after_a_commit_changes_nothing(ledger: DjangoLedger, identity: Identity) -> None:
    claim = claimed(ledger, identity)
    with ledger.transaction(claim):
        ledger.finish(claim, DONE)
    assert ledger.record(claim, FAILED) == DONE


def test_hooks_on_commit_run_after_the_ending_is_there(ledger: DjangoLedger, alias: str, identity: Identity) -> None:
    seen = []
    claim = claimed(ledger, identity)
    with ledger.transaction(claim):
        with transaction.atomic(using=alias):
            transaction.on_commit(lambda: seen.append(ledger.claim(identity, "orders.place", 60.0)), using=alias)
        assert seen == []
        ledger.finish(claim, DONE)
        assert seen == []
    assert seen == [DONE]


def test_many_claims_at_once_are_granted_to_one(ledger: DjangoLedger, alias: str, identity: Identity) -> None:
    claims: list[Any] = []
    ended: list[bool] = []
    start = threading.Barrier(8)

    def contend() -> None:
        start.wait(60)
        try:
            claim = ledger.claim(identity, "orders.place", 60.0)
            claims.append(claim)
            if isinstance(claim, Claim):
                with ledger.transaction(claim):
                    execute(alias, "INSERT INTO effect VALUES ('one')")
                    ledger.finish(claim, DONE)
                ended.append(True)
        except LeaseLost:
            pass
        finally:
            connections[alias].close()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(claims) == 8
    assert (ended, effects(alias)) == ([True], ["one"])
    assert ledger.claim(identity, "orders.place", 60.0) == DONE


def test_later_attempts_are_known(ledger: DjangoLedger, identity: Identity) -> None:
    claimed(ledger, identity)
    assert not ledger.was_retried(identity)
    claimed(ledger, identity._replace(nesting=1, retries=3))
    assert not ledger.was_retried(identity)
    claimed(ledger, identity._replace(retries=1))
    assert ledger.was_retried(identity)


def test_old_rows_are_pruned_in_batches(ledger: DjangoLedger, alias: str) -> None:
    for number in range(7):
        claim = claimed(ledger, Identity(f"old-{number}", 0, 0))
        if number < 5:
            ledger.record(claim, DONE)
    execute(
        alias,
        "UPDATE taskbridge_execution SET leased_until = leased_until - interval '30 days',"
        " finished_at = finished_at - interval '30 days'",
    )
    ledger.record(claimed(ledger, Identity("young", 0, 0)), DONE)
    claimed(ledger, Identity("running", 0, 0))
    age = 14 * 86400.0
    assert ledger.expired(age) == 7
    assert [count for count in ledger.prune(age, 2) if count] == [2, 2, 1, 2]
    assert ledger.expired(age) == 0
    left = {row[0] for row in execute(alias, "SELECT task_id FROM taskbridge_execution")}
    assert left == {"young", "running"}
