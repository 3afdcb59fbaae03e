"""
Every promise that a task may rely on, tried and written down.

`python -m bridged.cases` runs all of them against whatever worker is up, and prints one JSON object: case -> what was
seen. What is seen must not depend on the side.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from celery import chain, chord, group
from celery.exceptions import TimeoutError as ResultTimeout

from bridged import journal, tasks
from bridged.celery import app

TIMEOUT = 90.0

CASES: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    CASES[function.__name__] = function
    return function


def settled(result: Any) -> Any:
    """
    Return a result once it is there.

    Asked for again and again: the subscription that `get` waits for is not safe with several threads.
    """
    deadline = time.monotonic() + TIMEOUT
    while not result.ready():
        if time.monotonic() > deadline:
            raise ResultTimeout(f"{result.id} had no result within {TIMEOUT:g} s")
        time.sleep(0.02)
    return result


def ending(result: Any) -> list[Any]:
    """Return state and value of a result, an exception by its type and text."""
    value = settled(result).get(propagate=False)
    shown = [type(value).__name__, str(value)] if isinstance(value, BaseException) else value
    return [result.state, shown]


def lines(task_id: str, *until: str, every_run_ended: bool = True) -> list[str]:
    """Return what a task's journal says, sorted, once all of `until` stand in it and what has begun has ended."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        found = journal.read(task_id)
        counts = Counter(line["what"] for line in found)
        complete = counts["prerun"] == counts["postrun"] or not every_run_ended
        if (complete and set(until) <= set(counts)) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    hidden = {"id", "worker"}
    return sorted(json.dumps({k: v for k, v in line.items() if k not in hidden}, sort_keys=True) for line in found)


@case
def delay() -> Any:
    return ending(tasks.add.delay(1, 2))


@case
def journal_of_success() -> Any:
    result = tasks.add.delay(3, b=4)
    return [ending(result), lines(result.id, "postrun")]


@case
def journal_of_failure() -> Any:
    result = tasks.fails.delay()
    return [ending(result), lines(result.id, "postrun")]


@case
def json_types() -> Any:
    values = [
        uuid.UUID(int=7),
        Decimal("1.10"),
        datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        [1, None, "ü", {"deep": {"er": [True]}}],
        "text",
        2**60,
        0.1,
    ]
    return [ending(tasks.echo.delay(value)) for value in values]


@case
def compressed() -> Any:
    return ending(tasks.echo.apply_async(("x" * 5000,), compression="gzip"))


@case
def arguments_may_be_changed() -> Any:
    return ending(tasks.changes_its_arguments.delay([1, 2]))


@case
def send_task_by_name() -> Any:
    return ending(app.send_task("bridged.tasks.add", (5, 6)))


@case
def unknown_task() -> Any:
    state, value = ending(app.send_task("bridged.tasks.of_another_version", (1,)))
    return [state, value[0] if isinstance(value, list) else value]


@case
def request_context() -> Any:
    # An expiry of several days, an own header, limits and an alias: all of them reach `self.request`.
    return ending(
        tasks.context.apply_async(
            (1, "two"),
            {"three": [3]},
            expires=86400,
            headers={"color": "blue"},
            shadow="alias",
            time_limit=30,
            soft_time_limit=20,
        )
    )


@case
def stamped() -> Any:
    signature = tasks.context.s()
    signature.stamp(batch="seven")
    return ending(signature.apply_async())[1]["stamps"]


@case
def lineage() -> Any:
    result = tasks.parent.delay()
    own, child = settled(result).get()
    root, parent = settled(app.AsyncResult(child)).get()
    return [root == own, parent == own, child != own]


@case
def countdown() -> Any:
    before = time.time()
    value = ending(tasks.context.apply_async(countdown=1))[1]
    return [time.time() - before >= 1, value["eta"], value["retries"]]


@case
def eta() -> Any:
    due = datetime.now(UTC) + timedelta(seconds=1)
    value = ending(tasks.context.apply_async(eta=due))[1]
    return [datetime.now(UTC) >= due, value["eta"]]


@case
def expired() -> Any:
    result = tasks.add.apply_async((1, 2), expires=-5)
    return [ending(result), lines(result.id, "revoked")]


@case
def retry() -> Any:
    result = tasks.flaky.delay(2)
    return [ending(result), lines(result.id, "success", "postrun")]


@case
def autoretry_with_backoff() -> Any:
    result = tasks.stubborn.delay(2)
    return [ending(result), lines(result.id, "success", "postrun")]


@case
def retries_exhausted() -> Any:
    result = tasks.gives_up.delay()
    return [ending(result), lines(result.id, "failure", "postrun")]


@case
def a_chain() -> Any:
    return ending(chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))())


@case
def a_broken_chain() -> Any:
    result = chain(tasks.add.s(1, 2), tasks.fails.si(), tasks.add.s(4))()
    return ending(result.parent)


@case
def a_group() -> Any:
    return sorted(settled(group(tasks.add.s(number, number) for number in range(5))()).get())


@case
def a_chord() -> Any:
    return ending(chord([tasks.add.s(number, 1) for number in range(5)])(tasks.total.s()))


@case
def a_chain_of_chords() -> Any:
    work = chain(
        tasks.add.s(1, 1),
        group(tasks.add.s(1), tasks.add.s(2)),
        tasks.total.s(),
        group(tasks.add.s(10), tasks.add.s(20)),
        tasks.total.s(),
    )
    return ending(work())


@case
def a_broken_chord() -> Any:
    state, value = ending(chord([tasks.add.s(1, 1), tasks.fails.s()])(tasks.total.s()))
    return [state, value[0]]


@case
def map_and_chunks() -> Any:
    return [
        ending(tasks.add.starmap([(1, 2), (3, 4)]).apply_async()),
        settled(tasks.add.chunks([(1, 2), (3, 4), (5, 6)], 2)()).get(),
    ]


@case
def callbacks() -> Any:
    result = tasks.add.apply_async((2, 3), link=tasks.add.s(10))
    settled(result)
    deadline = time.monotonic() + TIMEOUT
    while not result.children and time.monotonic() < deadline:
        time.sleep(0.05)
    return ending(result.children[0])


@case
def errbacks() -> Any:
    result = tasks.fails.apply_async(link_error=tasks.told_of_failure.s())
    return [ending(result), lines(result.id, "errback", "failure", "postrun")]


@case
def replaced() -> Any:
    return ending(tasks.replaces_itself.delay(1))


@case
def task_class_handlers() -> Any:
    good, bad = tasks.hooked.delay(True), tasks.hooked.delay(False)
    return [
        ending(good),
        ending(bad),
        lines(good.id, "after_return", "postrun"),
        lines(bad.id, "after_return", "postrun"),
    ]


@case
def soft_time_limit() -> Any:
    return ending(tasks.minds_the_time.delay())


@case
def hard_time_limit() -> Any:
    result = tasks.ignores_the_time.apply_async(link_error=tasks.told_of_failure.s())
    # Celery's pool tells of it twice, and by its SIGTERM lets the body's `postrun` through; once must be enough.
    told = set(lines(result.id, "failure", "errback", every_run_ended=False))
    return [ending(result), sorted(line for line in told if "postrun" not in line)]


@case
def time_limit_of_one_call() -> Any:
    return ending(tasks.naps.apply_async((20,), soft_time_limit=0.3))


@case
def worker_lost() -> Any:
    state, value = ending(tasks.kills_its_process.delay())
    return [state, value[0]]


@case
def worker_lost_and_redelivered() -> Any:
    return ending(tasks.kills_its_process_once.delay(str(uuid.uuid4())))


@case
def system_exit() -> Any:
    state, value = ending(tasks.leaves.delay())
    return [state, value[0]]


@case
def ignore() -> Any:
    result = tasks.ignored.delay()
    seen = lines(result.id, "postrun")
    return [result.state, seen]


@case
def reject() -> Any:
    result = tasks.rejects.delay()
    return [ending(result)[0], lines(result.id, "failure", "postrun")]


@case
def reject_and_requeue() -> Any:
    return ending(tasks.rejects_once.delay(str(uuid.uuid4())))


def main() -> None:
    """Run the cases, several at a time, and print what was seen."""
    chosen = sys.argv[1:] or list(CASES)

    def run(name: str) -> Any:
        try:
            return CASES[name]()
        except Exception as error:  # noqa: BLE001 - it is what was seen
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(6) as pool:
        seen = dict(zip(chosen, pool.map(run, chosen), strict=True))
    print(json.dumps(seen, indent=1, sort_keys=True, default=str))


if __name__ == "__main__":
    main()
