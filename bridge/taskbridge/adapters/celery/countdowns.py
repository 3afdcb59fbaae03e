"""
Whether an eta was given as such, or as a countdown.

Celery makes an eta of a countdown by the clock of the dispatching process, and from then on nobody can tell. Where that
clock is wrong, an absolute eta is still right, and a countdown is right only as the time that was left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app.amqp import task_message

COUNTDOWN = 4
"""Place of the countdown among the arguments of `create_task_message`."""


class CountdownMessage(task_message):
    """A task message whose eta was made of a countdown."""

    __slots__ = ()


def noting_countdowns(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes task messages as `create` does, those with a countdown as `CountdownMessage`."""

    def noting(*args: Any, **kwargs: Any) -> Any:
        message = create(*args, **kwargs)
        countdown = args[COUNTDOWN] if len(args) > COUNTDOWN else kwargs.get("countdown")
        return CountdownMessage(*message) if countdown else message

    return noting
