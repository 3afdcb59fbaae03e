"""What must not be carried into a forked child."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def call_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every child that is forked while its object lives."""
    os.register_at_fork(after_in_child=_weakly(method))


def call_before_fork(method: Callable[[], None]) -> None:
    """Call a bound method before every fork while its object lives."""
    os.register_at_fork(before=_weakly(method))


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    reference = weakref.WeakMethod(method)

    def call() -> None:
        found = reference()
        if found is not None:
            found()

    return call
