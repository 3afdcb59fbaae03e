"""What is tested before a process starts, and how it came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from enum import StrEnum
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class Status(StrEnum):
    """Whether a process may rely on something."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was tested; `remedy` is empty when it is ok."""

    subject: str
    status: Status
    detail: str
    remedy: str = ""


def ok(subject: str, detail: str) -> Line:
    """Return a line that asks nothing of anybody."""
    return Line(subject, Status.OK, detail)


def warn(subject: str, detail: str, remedy: str) -> Line:
    """Return a line for what works, but not well or not for long, or for what could not be found out."""
    return Line(subject, Status.WARN, detail, remedy)


def fail(subject: str, detail: str, remedy: str) -> Line:
    """Return a line for what would keep the process from working."""
    return Line(subject, Status.FAIL, detail, remedy)


def worst(lines: Iterable[Line]) -> Status:
    """Return the worst of the outcomes."""
    order = list(Status)
    return max((line.status for line in lines), key=order.index, default=Status.OK)


def within(seconds: float, question: Callable[[], T]) -> T:
    """
    Return what a question returns, or raise what it raises; TimeoutError after `seconds`.

    For libraries that have no time limit of their own: the thread is left to end by itself.
    """
    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits for the answer
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except FutureTimeoutError:
        if answer.done():
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def listed(numbers: Sequence[object]) -> str:
    """Return numbers or names as a person writes them."""
    return ", ".join(str(number) for number in numbers)
