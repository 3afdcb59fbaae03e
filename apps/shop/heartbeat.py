"""
Files by which a Celery process says that it is alive: for probes, which must not ask the broker.

They stand in the folder that SHOP_WORKER_STATE names: `started` once a worker is about to connect, `ready` from the
moment it first takes messages, and `heartbeat` with a new time of change whenever its loop (or beat's) has come round.
The folder has to be empty when the process starts.
"""

from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.signals import beat_embedded_init, beat_init

INTERVAL = 15.0
"""Seconds between two heartbeats of a worker."""


def install(app: Celery, folder: Path) -> None:
    """Have the workers and the beat of an application write into a folder, which is made when it is not there."""

    class Started(bootsteps.StartStopStep):
        """Comes after the pool, and before the consumer, which waits for the broker as long as that is away."""

        requires = ("celery.worker.components:Pool",)

        def start(self, _parent: Any) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "started").touch()

    class Heartbeat(bootsteps.StartStopStep):
        """Runs while the worker is connected; a connection that is lost takes the heartbeat away until it is back."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, parent: Any, **options: Any) -> None:
            super().__init__(parent, **options)
            self._entry: Any = None

        def start(self, parent: Any) -> None:
            (folder / "ready").touch()
            (folder / "heartbeat").touch()
            self._entry = parent.timer.call_repeatedly(INTERVAL, (folder / "heartbeat").touch)

        def stop(self, _parent: Any) -> None:
            if self._entry is not None:
                self._entry.cancel()
                self._entry = None
            (folder / "heartbeat").unlink(missing_ok=True)

    app.steps["worker"].add(Started)
    app.steps["consumer"].add(Heartbeat)

    def attach(sender: Any, **_: Any) -> None:
        scheduler = sender.scheduler
        tick = scheduler.tick

        def beating(*args: Any, **kwargs: Any) -> Any:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "heartbeat").touch()
            return tick(*args, **kwargs)

        scheduler.tick = beating

    for signal in (beat_init, beat_embedded_init):
        signal.connect(attach, weak=False)
