"""What a path is, and where they are put together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PREFIX = os.environ.get("BRIDGED_PREFIX", "")
SPECIAL = f"{PREFIX}.special"
"""A queue that has to be named."""


@dataclass(frozen=True)
class Path:
    """
    One way of sending.

    `send` is given the tasks and the mark; `runs` counts the tasks that run because of it. `side` is where all of them
    run while the service is live, and `none` where it depends. `again` says that it is also gone with task protocol 1.
    """

    send: Callable[[Any, str], Any]
    runs: int = 1
    side: str = "kafka"
    again: bool = False


PATHS: dict[str, Path] = {}


def path(name: str, runs: int = 1, side: str = "kafka", again: bool = False) -> Callable[[Any], Any]:
    def add(send: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        assert name not in PATHS
        PATHS[name] = Path(send, runs, side, again)
        return send

    return add
