"""What became of one dispatch: exactly one class for each, so that the classes add up to what was dispatched."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from taskbridge.comparison.trace import Copy, Run, Sending, Trace

EXECUTED_OUTCOMES = frozenset({"success", "failure", "retry", "ignored", "rejected"})
"""Outcomes of a task whose body ran to an end. `requeued` is none of them: the message comes back."""

COMMITTED = frozenset({"success", "ignored"})
"""Outcomes with which the effects of a task that runs once are kept."""

DISCARDED = frozenset({"dead", "rejected"})
"""Endings without an execution that nobody asked for, as `expired` and `revoked` were."""

SKIPPED = 2
"""Of a task that runs once: its body had run before, and only what follows its end was repeated."""

WORKER_LOST = "worker_lost"
"""Dead-letter reason of a record whose executor died: a fault that was seen and counted, not a disagreement."""


class Class(StrEnum):
    """The classes of mirrored dispatches and of those that one side executed for real."""

    MATCH = "MATCH"
    """The copy was decoded, resolved and bound, and its digests are equal."""
    REDELIVERED = "REDELIVERED"
    """A match whose copy was read more than once."""
    LOST_COPY = "LOST_COPY"
    """The copy was given up at dispatch: copies are best effort."""
    MISMATCH = "MISMATCH"
    """The copy differs, or a step failed on it."""
    MISSING_CANDIDATE = "MISSING_CANDIDATE"
    """A copy was sent and never seen."""

    EXECUTED = "EXECUTED"
    """Ran once, on the side it was sent to, whatever its outcome; delivered again, it was skipped."""
    REPEATED = "REPEATED"
    """Ran more than once, and every repeat is explained."""
    ENDED = "ENDED"
    """Ended without running: expired, revoked, dead-lettered or discarded."""
    DELAYED = "DELAYED"
    """Put aside and not sent yet."""
    MISSING = "MISSING"
    """Never ran."""

    PENDING = "PENDING"
    """Too young to be judged."""
    WRONG_SIDE = "WRONG_SIDE"
    """Ran, or ended, on a side it was not sent to."""
    DUPLICATE = "DUPLICATE"
    """Ran, or was copied, more often than anything explains."""


MIRRORED = (
    Class.MATCH,
    Class.REDELIVERED,
    Class.LOST_COPY,
    Class.PENDING,
    Class.MISMATCH,
    Class.MISSING_CANDIDATE,
    Class.DUPLICATE,
    Class.WRONG_SIDE,
)
EXECUTED = (
    Class.EXECUTED,
    Class.REPEATED,
    Class.ENDED,
    Class.DELAYED,
    Class.PENDING,
    Class.MISSING,
    Class.DUPLICATE,
    Class.WRONG_SIDE,
)
BREACHES = frozenset(
    {Class.MISMATCH, Class.MISSING_CANDIDATE, Class.MISSING, Class.DUPLICATE, Class.WRONG_SIDE},
)
SETTLED = frozenset({Class.MATCH, Class.REDELIVERED, Class.EXECUTED, Class.REPEATED, Class.ENDED})
"""Classes that are evidence: without one of them there is nothing to agree on."""


class Judgement(NamedTuple):
    """
    The class of one dispatch.

    `listed` are worth showing one by one, breaches and what only a fault explains; `reasons` are the explanations of
    a repeat, or the way in which a dispatch ended without running.
    """

    verdict: Class
    detail: str = ""
    reasons: tuple[str, ...] = ()
    breach: bool = False
    listed: bool = False


def is_mirrored(trace: Trace) -> bool:
    """Return whether a dispatched message was to be compared by its copy."""
    return trace.last_sending().copy != "none"


def executions(trace: Trace) -> list[Run]:
    """
    Return the runs in which the task's body was executed.

    Where a task that runs once has lost the row of its execution with its process, the repetition of its end stands
    for it.
    """
    ran = [run for run in trace.runs if _is_execution(run)]
    return [run for run in ran if run.once != SKIPPED] or ran[:1]


def skips(trace: Trace) -> int:
    """Return how often the body of a task that runs once was not executed, because it had been before."""
    return sum(_is_execution(run) for run in trace.runs) - len(executions(trace))


def judge(trace: Trace, now: float, horizon: float) -> Judgement:
    """
    Return the class of a dispatched message as it stands at `now` (seconds since the epoch).

    What is missing counts as missing only `horizon` seconds after the message could have run.
    """
    judgement = _judge_copy(trace, now, horizon) if is_mirrored(trace) else _judge_execution(trace, now, horizon)
    breach = judgement.breach or judgement.verdict in BREACHES
    return judgement._replace(breach=breach, listed=judgement.listed or breach)


def judge_undispatched(trace: Trace) -> Judgement | None:
    """
    Return the breach in what was seen without its dispatch, or None.

    Whatever is not known of it, one message must not run twice.
    """
    ran = executions(trace)
    if len(ran) > 1 and len(ran) - 1 > sum(_repeats(ran).values()):
        detail = f"ran {len(ran)} times ({_sides(ran)}); its dispatch was not observed"
        return Judgement(Class.DUPLICATE, detail, breach=True, listed=True)
    return None


def _judge_copy(trace: Trace, now: float, horizon: float) -> Judgement:
    routes = {sending.route for sending in trace.sendings}
    if "kafka" not in routes and any(run.side == "kafka" for run in trace.runs):
        return Judgement(Class.WRONG_SIDE, "was copied for comparison only, and still ended on kafka")
    sendings = [sending for sending in trace.sendings if sending.copy != "none"]
    digests = {run.args for run in trace.runs if run.args}
    for copy in sorted(trace.copies):
        difference = _difference(copy, sendings, digests)
        if difference:
            return Judgement(Class.MISMATCH, difference)
    places = {(copy.partition, copy.offset) for copy in trace.copies}
    if len(places) > len(sendings):
        listing = ", ".join(f"{partition}/{offset}" for partition, offset in sorted(places)[:5])
        return Judgement(Class.DUPLICATE, f"{len(places)} copies of {len(sendings)} sent, at {listing}")
    sent = [sending for sending in sendings if sending.copy == "sent"]
    if len(places) < len(sent):
        age = now - max(sending.at for sending in sent)
        if age < horizon:
            return Judgement(Class.PENDING)
        return Judgement(Class.MISSING_CANDIDATE, f"its copy was sent {age:.0f} s ago and not seen")
    if not places:
        return Judgement(Class.LOST_COPY)
    if len(trace.copies) > len(places):
        return Judgement(Class.REDELIVERED)
    return Judgement(Class.MATCH)


def _difference(copy: Copy, sendings: list[Sending], digests: set[str]) -> str:
    for step, passed in (("decoded", copy.decoded), ("resolved", copy.resolved), ("bound", copy.bound)):
        if not passed:
            return f"the copy was not {step}" + (f": {copy.error}" if copy.error else "")
    bodies = {sending.body for sending in sendings}
    if copy.body not in bodies:
        return f"body digest {copy.body or 'absent'}, dispatched {' or '.join(sorted(bodies))}"
    if copy.args and digests and copy.args not in digests:
        return f"arguments digest {copy.args}, on celery {' or '.join(sorted(digests))}"
    return ""


def _judge_execution(trace: Trace, now: float, horizon: float) -> Judgement:
    sent = [sending for sending in trace.sendings if sending.route != "delayed"]
    put_aside = len(sent) < len(trace.sendings)
    stamped = {sending.route for sending in sent}
    numbers = {(sending.source, sending.seq) for sending in sent}
    ambiguous = sum(sending.ambiguous for sending in trace.sendings)
    # An application may reuse a task id: then each dispatch is one run. A relay that sends again what it put
    # aside, or what may have arrived before, means the same one run.
    expected = 1 if put_aside or ambiguous else len(numbers)

    ran = executions(trace)
    skipped = skips(trace)
    ended = [run for run in trace.runs if not _is_execution(run) and run.outcome != "requeued"]
    strays = [run for run in (*ran, *ended) if stamped and run.side not in stamped]
    if strays and len(ran) <= expected:
        return Judgement(Class.WRONG_SIDE, f"sent to {_words(stamped)}, but {_endings(strays)}")
    if sum(run.once == 1 and run.outcome in COMMITTED for run in ran) > 1:
        return Judgement(Class.DUPLICATE, f"is to run once, and took effect {len(ran)} times ({_sides(ran)})")
    if len(ran) > expected:
        repeats = _repeats(ran)
        # The row of an ambiguous publish and that of its repetition tell of the same one repeat.
        repeats["ambiguous"] = ambiguous
        repeats["sent_again"] = max(len(sent) - expected - ambiguous, 0)
        reasons = tuple(reason for reason, count in repeats.items() if count)
        detail = f"ran {len(ran)} times instead of {expected} ({_sides(ran)})"
        if strays or len(ran) - expected > sum(repeats.values()):
            return Judgement(Class.DUPLICATE, detail, reasons)
        return Judgement(Class.REPEATED, detail, reasons, listed=True)
    if len(ran) + skipped + len(ended) < expected:
        return _judge_absence(trace, sent, now, horizon)
    if not ran:
        return _judge_end(ended)
    return Judgement(Class.EXECUTED, reasons=("skipped",) if skipped else ())


def _judge_absence(trace: Trace, sent: list[Sending], now: float, horizon: float) -> Judgement:
    if not sent:
        due = max(sending.due for sending in trace.sendings)
        if not due or now - due < horizon:
            return Judgement(Class.DELAYED)
        return Judgement(Class.MISSING, f"put aside, due {now - due:.0f} s ago and not sent: is the relay running?")
    given_back = [run.finished for run in trace.runs if run.outcome == "requeued"]
    age = now - max([*(sending.runnable for sending in sent), *given_back])
    if age < horizon:
        return Judgement(Class.PENDING)
    words = f"could run for {age:.0f} s on {_words({sending.route for sending in sent})}"
    ran = len(executions(trace))
    if ran:
        return Judgement(Class.MISSING, f"{words}; was sent {len(sent)} times and ran {ran} times")
    return Judgement(Class.MISSING, f"{words}, and did not run")


def _judge_end(ended: list[Run]) -> Judgement:
    discarded = sorted(run for run in ended if run.outcome in DISCARDED)
    if discarded:
        last = discarded[-1]
        what = "dead-lettered" if last.outcome == "dead" else f"discarded by {last.side}"
        lost = all(run.detail == WORKER_LOST for run in discarded)
        detail = f"{what}: {last.detail or 'no reason given'}"
        return Judgement(Class.ENDED, detail, (last.outcome,), breach=not lost, listed=True)
    return Judgement(Class.ENDED, reasons=(max(ended).outcome,))


def _is_execution(run: Run) -> bool:
    # A message that names an unknown task is rejected before anything could start.
    return run.outcome in EXECUTED_OUTCOMES and not (run.outcome == "rejected" and not run.started)


def _repeats(ran: list[Run]) -> dict[str, int]:
    """Return how many executions beyond the first the records themselves explain, by explanation."""
    first = {(run.side, run.partition, run.offset): run for run in sorted(ran) if run.offset >= 0}
    unplaced = [run for run in ran if run.offset < 0]
    return {
        "redelivered": len(ran) - len(unplaced) - len(first),
        "given_back": sum(run.deliveries > 0 for run in (*first.values(), *unplaced)),
        "ambiguous": 0,
        "sent_again": 0,
    }


def _sides(ran: list[Run]) -> str:
    sides = sorted({run.side for run in ran})
    return ", ".join(f"{sum(run.side == side for run in ran)} on {side}" for side in sides)


def _endings(runs: list[Run]) -> str:
    return " and ".join(sorted({f"{run.outcome} on {run.side}" for run in runs}))


def _words(names: set[str]) -> str:
    return " and ".join(sorted(names))
