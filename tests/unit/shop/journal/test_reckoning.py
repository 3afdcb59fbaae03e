"""Dispatches set against runs."""

from datetime import UTC, datetime, timedelta

from shop.journal.reckoning import Dispatched, Key, Ran, reckon

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def key(name="a", retries=0, nesting=0):
    return Key(name, retries, nesting)


def dispatched(of=None, not_before=None, times=1):
    return Dispatched(of or key(), "task", times, not_before)


def ran(of=None, side="celery", finished=True, state="SUCCESS"):
    return Ran(of or key(), "task", side, finished, state if finished else "")


def only_line(account):
    (line,) = account.lines
    return line


def test_once_dispatched_and_once_run_is_as_it_should_be():
    account = reckon([dispatched()], [ran()], NOW)
    assert account.ok
    assert (only_line(account).dispatched, only_line(account).ran_once) == (1, 1)
    assert only_line(account).side == "celery"


def test_what_never_ran_is_named():
    account = reckon([dispatched()], [], NOW)
    assert not account.ok
    assert account.never_ran == ["task a retry 0"]
    assert only_line(account).side == "-"


def test_what_is_not_due_yet_waits():
    account = reckon([dispatched(not_before=NOW + timedelta(seconds=1))], [], NOW)
    assert account.ok
    assert only_line(account).waiting == 1


def test_what_was_due_and_did_not_run_is_lost():
    assert not reckon([dispatched(not_before=NOW - timedelta(seconds=1))], [], NOW).ok


def test_two_runs_are_named_also_on_two_sides():
    account = reckon([dispatched()], [ran(), ran(side="kafka")], NOW)
    assert not account.ok
    assert account.ran_more_than_once == ["task a retry 0"]
    assert only_line(account).side == "celery+kafka"
    assert only_line(account).ran_once == 0


def test_a_retry_is_a_dispatch_of_its_own():
    account = reckon(
        [dispatched(), dispatched(key(retries=1))], [ran(state="RETRY"), ran(key(retries=1), side="kafka")], NOW
    )
    assert account.ok
    assert {(line.side, line.ran_once) for line in account.lines} == {("celery", 1), ("kafka", 1)}


def test_a_replaced_task_is_a_dispatch_of_its_own():
    account = reckon([dispatched(), dispatched(key(nesting=1))], [ran()], NOW)
    assert account.never_ran == ["task a retry 0 nesting 1"]


def test_a_run_that_has_not_ended_is_running():
    account = reckon([dispatched()], [ran(finished=False)], NOW)
    assert account.ok
    assert account.running == ["task a retry 0"]
    assert only_line(account).ran_once == 0


def test_a_second_run_counts_also_while_the_first_has_not_ended():
    account = reckon([dispatched()], [ran(finished=False), ran()], NOW)
    assert account.ran_more_than_once == ["task a retry 0"]


def test_what_expired_was_not_lost_and_did_not_run():
    account = reckon([dispatched()], [ran(state="EXPIRED")], NOW)
    assert account.ok
    assert (only_line(account).thrown_away, only_line(account).ran_once) == (1, 0)


def test_a_message_published_twice_is_one_dispatch_and_its_second_run_shows():
    account = reckon([dispatched(times=2)], [ran(), ran()], NOW)
    assert account.ran_more_than_once == ["task a retry 0"]
    assert account.published_more_than_once == ["task a retry 0"]


def test_a_run_without_a_dispatch_is_named_and_counted_if_it_ran_twice():
    account = reckon([], [ran(), ran()], NOW)
    assert account.not_dispatched == ["task a retry 0"]
    assert not account.ok


def test_the_sums_add_up_to_what_was_dispatched():
    account = reckon(
        [dispatched(key(name)) for name in "abcd"]
        + [dispatched(key("e"), not_before=NOW + timedelta(days=1)), dispatched(key("f"))],
        [ran(key("a")), ran(key("b")), ran(key("b")), ran(key("c"), finished=False), ran(key("f"), state="REVOKED")],
        NOW,
    )
    total = account.as_dict()["total"]
    assert total["dispatched"] == 6
    assert total["dispatched"] == sum(
        total[name] for name in ("ran_once", "ran_more_than_once", "thrown_away", "running", "waiting", "never_ran")
    )
