"""
Moves a service to and fro: `python -m soaked.flapper SERVICE HERTZ SECONDS OUTPUT`.

Its output has one JSON line per transition, with the time at which it was committed. It ends with the service `off`.
"""

import json
import random
import sys
import time

import django

django.setup()

from soaked.celery import app  # noqa: E402
from taskbridge.contrib.django.rules import Request  # noqa: E402
from taskbridge.contrib.django.transition import transition  # noqa: E402
from taskbridge.contrib.django.wiring import Bridge, bridge_of  # noqa: E402
from taskbridge.cutover import Flag, Stage  # noqa: E402
from taskbridge.exceptions import TransitionRefused  # noqa: E402

KILL_EVERY = 5.0
"""Seconds between two kills."""


def next_flag(flag: Flag) -> tuple[Stage, int]:
    """Return where to go: further, or anywhere back."""
    if flag.stage is Stage.OFF:
        return Stage.MIRROR, 0
    return random.choice(
        [(Stage.LIVE, 2_500), (Stage.LIVE, 5_000), (Stage.LIVE, 10_000), (Stage.MIRROR, 0), (Stage.OFF, 0)]
    )


def step(bridge: Bridge, service: str, killing: bool) -> Flag:
    """Move the service once; return its flag."""
    before = bridge.store.flag_states()
    flag = before[service].flag if service in before else Flag(service, Stage.OFF)
    if killing:
        request = Request(service=service, action="kill", who="flapper", why="to see how fast it spreads")
        return transition(bridge.store, bridge.settings, request).after
    stage, basis_points = next_flag(flag)
    request = Request(
        service=service, stage=stage, basis_points=basis_points, who="flapper", why="flapping", override=True
    )
    return transition(bridge.store, bridge.settings, request).after


def main(service: str, hertz: float, seconds: float, path: str) -> None:
    """Move the service `hertz` times a second."""
    bridge = bridge_of(app)
    start = time.monotonic()
    killed = 0
    with open(path, "w", encoding="utf-8") as output:
        number = 0
        while (now := time.monotonic() - start) < seconds:
            due = number / hertz
            if due > now:
                time.sleep(due - now)
            number += 1
            killing = now > (killed + 1) * KILL_EVERY
            killed += killing
            try:
                flag = step(bridge, service, killing)
            except TransitionRefused as error:
                output.write(json.dumps({"refused": str(error)}) + "\n")
                continue
            line = {"version": flag.version, "stage": flag.stage, "at": time.time(), "kill": killing}
            output.write(json.dumps(line) + "\n")
            if killing:
                # Nobody may overwrite it before everybody could see it.
                time.sleep(2.0)
        step(bridge, service, killing=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
