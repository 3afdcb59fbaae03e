from __future__ import annotations

import pytest

from taskbridge.comparison import classes
from taskbridge.comparison.classes import Class
from taskbridge.comparison.verdict import Counts, Verdict, advice, decide, sentence, worst


def counts(
    mirrored: dict[Class, int] | None = None,
    executed: dict[Class, int] | None = None,
    *,
    adds_up: bool = True,
    discarded: int = 0,
    undispatched_breaches: int = 0,
    unobserved: int = 0,
) -> Counts:
    ledgers = (
        dict.fromkeys(classes.MIRRORED, 0) | (mirrored or {}),
        dict.fromkeys(classes.EXECUTED, 0) | (executed or {}),
    )
    dispatched = sum(sum(ledger.values()) for ledger in ledgers)
    return Counts(dispatched, *ledgers, adds_up, discarded, undispatched_breaches, unobserved)


CASES = [
    ("nothing was dispatched", counts(), Verdict.INSUFFICIENT),
    ("all match", counts({Class.MATCH: 3}), Verdict.AGREE),
    ("all ran", counts(None, {Class.EXECUTED: 3}), Verdict.AGREE),
    ("some are young", counts(None, {Class.EXECUTED: 3, Class.PENDING: 2, Class.DELAYED: 1}), Verdict.AGREE),
    ("all are young", counts(None, {Class.PENDING: 2}), Verdict.INSUFFICIENT),
    ("all copies were lost", counts({Class.LOST_COPY: 4}), Verdict.INSUFFICIENT),
    ("mirror is proved and live is not", counts({Class.MATCH: 4}, {Class.PENDING: 1}), Verdict.INSUFFICIENT),
    ("explained repeats", counts(None, {Class.EXECUTED: 3, Class.REPEATED: 1}), Verdict.AGREE),
    ("one mismatch", counts({Class.MATCH: 999, Class.MISMATCH: 1}), Verdict.DISAGREE),
    ("one copy missing", counts({Class.MATCH: 999, Class.MISSING_CANDIDATE: 1}), Verdict.DISAGREE),
    ("one missing", counts(None, {Class.EXECUTED: 999, Class.MISSING: 1}), Verdict.DISAGREE),
    ("one twice", counts(None, {Class.EXECUTED: 999, Class.DUPLICATE: 1}), Verdict.DISAGREE),
    ("one on the wrong side", counts(None, {Class.EXECUTED: 999, Class.WRONG_SIDE: 1}), Verdict.DISAGREE),
    ("one dead letter", counts(None, {Class.EXECUTED: 9, Class.ENDED: 1}, discarded=1), Verdict.DISAGREE),
    ("twice, dispatch unseen", counts(None, {Class.EXECUTED: 9}, undispatched_breaches=1), Verdict.DISAGREE),
    ("some left no trace", counts(None, {Class.EXECUTED: 9}, unobserved=2), Verdict.INSUFFICIENT),
    ("a breach outweighs missing data", counts(None, {Class.MISSING: 1}, unobserved=2), Verdict.DISAGREE),
    ("the sums are wrong", counts(None, {Class.MISSING: 1}, adds_up=False), Verdict.INVALID),
]


@pytest.mark.parametrize(("given", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdict(given: Counts, expected: Verdict) -> None:
    verdict = decide(given)
    assert verdict is expected
    words = sentence("orders", verdict, given)
    assert words.startswith(f"{expected}: ")
    assert words.endswith((".", "?"))


def test_the_sentence_counts() -> None:
    given = counts({Class.MATCH: 1200, Class.LOST_COPY: 3}, {Class.EXECUTED: 800, Class.PENDING: 2})
    assert sentence("orders", Verdict.AGREE, given) == (
        "AGREE: of 2,005 dispatches of orders, 1,200 copied and equal, 800 executed once on the side they were sent "
        "to; 3 whose copy was lost at dispatch, 2 too young to judge."
    )


def test_the_sentence_of_one() -> None:
    given = counts(None, {Class.MISSING: 1})
    assert sentence("orders", Verdict.DISAGREE, given) == "DISAGREE: of 1 dispatch of orders, 1 MISSING."


@pytest.mark.parametrize(
    ("verdict", "stage", "basis_points", "following", "rollback"),
    [
        (Verdict.AGREE, "off", 0, "cutover orders mirror", ""),
        (Verdict.INSUFFICIENT, "off", 0, "cutover orders mirror", ""),
        (Verdict.AGREE, "mirror", 0, "cutover orders live --percent 1 --dry-run", "cutover orders off"),
        (Verdict.AGREE, "live", 100, "cutover orders live --percent 5 --dry-run", "cutover orders mirror"),
        (Verdict.AGREE, "live", 1000, "cutover orders live --percent 25 --dry-run", "cutover orders mirror"),
        (Verdict.AGREE, "live", 10_000, "cutover orders complete --dry-run", "cutover orders mirror"),
        (Verdict.AGREE, "shadow", 100, "cutover orders shadow --percent 5 --dry-run", "cutover orders mirror"),
        (Verdict.AGREE, "shadow", 10_000, "cutover orders live --percent 1 --dry-run", "cutover orders mirror"),
        (Verdict.AGREE, "complete", 0, "status orders", "cutover orders live --percent 100"),
        (Verdict.DISAGREE, "complete", 0, "cutover orders live --percent 100", "cutover orders live --percent 100"),
        (Verdict.AGREE, "live", None, "status orders", "cutover orders mirror"),
        (Verdict.DISAGREE, "live", 1000, "cutover orders mirror", "cutover orders mirror"),
        (Verdict.DISAGREE, "mirror", 0, "cutover orders off", "cutover orders off"),
        (Verdict.INSUFFICIENT, "mirror", 0, "report orders", "cutover orders off"),
        (Verdict.INVALID, "live", 1000, "report orders", "cutover orders mirror"),
        (Verdict.AGREE, "", None, "status orders", ""),
    ],
)
def test_only_agreement_leads_forward(
    verdict: Verdict, stage: str, basis_points: int | None, following: str, rollback: str
) -> None:
    expected = f"taskbridge {following}", f"taskbridge {rollback}" if rollback else ""
    assert advice("orders", verdict, stage, basis_points) == expected


def test_the_worst_verdict_counts() -> None:
    assert worst([Verdict.AGREE, Verdict.INSUFFICIENT]) is Verdict.INSUFFICIENT
    assert worst([Verdict.DISAGREE, Verdict.INSUFFICIENT]) is Verdict.DISAGREE
    assert worst(list(Verdict)) is Verdict.INVALID
