"""
What the bridge puts around the bodies of tasks, in processes that execute them.

As Celery's own `autoretry_for` does, it replaces `task.run`, before or together with Celery's tracers. Only tasks that
need it are touched, and only in workers: whoever calls a task as a function calls it as it was written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery import signals
from celery._state import get_current_app
from celery.app.trace import build_tracer

from taskbridge.adapters.celery.once import Once, asks_for_once
from taskbridge.dispatch.barrier import barrier

_WRAPPED = "taskbridge_body"

OnceOf = Callable[[Any], Once]
"""Returns what runs bodies once, for an app; called when the first such task runs."""


def connect_bodies(is_bridged: Callable[[Any], bool], once_of: OnceOf, needs_barrier: Callable[[Any], bool]) -> None:
    """
    Wrap the bodies of an app's tasks whenever a process begins to execute them, here and on our own workers.

    `needs_barrier` says whether bodies are to run in a barrier. Once however often it is called.
    """

    def wrap(app: Any, hostname: str) -> None:
        if is_bridged(app):
            wrap_bodies(app, hostname, once_of, needs_barrier(app))

    def on_worker(sender: Any, **_: Any) -> None:
        # Pools of threads have no other signal, and processes that are forked later inherit what is done now.
        wrap(sender.app, sender.hostname)

    def on_process(sender: str, **_: Any) -> None:
        # A process that was spawned rather than forked, and tasks that have come since.
        wrap(get_current_app(), sender)

    signals.worker_init.connect(on_worker, weak=False, dispatch_uid="taskbridge.bodies.worker")
    signals.worker_process_init.connect(on_process, weak=False, dispatch_uid="taskbridge.bodies.process")


def wrap_bodies(app: Any, hostname: str, once_of: OnceOf, in_barrier: bool) -> None:
    """Wrap the bodies of the app's tasks that ask for `once`, or all of them if they are to run in a barrier."""
    for name, task in list(app._tasks.items()):
        once = asks_for_once(task)
        if _WRAPPED in task.__dict__ or not (once or in_barrier):
            continue
        if in_barrier:
            task.run = _in_barrier(task, task.run)
        if once:
            task.run = _once(task, task.run, once_of)
        setattr(task, _WRAPPED, True)
        if task.__trace__ is not None:
            task.__trace__ = build_tracer(name, task, app.loader, hostname, app=app)


def _in_barrier(task: Any, body: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        if task.request.called_directly:
            return body(*args, **kwargs)
        with barrier():
            return body(*args, **kwargs)

    return run


def _once(task: Any, body: Callable[..., Any], once_of: OnceOf) -> Callable[..., Any]:
    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        if task.request.called_directly:
            return body(*args, **kwargs)
        return once_of(task.app).run(task, body, args, kwargs)

    return run
