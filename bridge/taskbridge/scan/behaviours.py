"""What each feature of Celery becomes on Kafka: the one table that judging, the reference and its test go by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a feature matters for moving a task."""

    STOPS = "stops"
    DIFFERS = "differs"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What becomes of a feature, in one sentence."""

    level: Level
    sentence: str


_RELAY = "It waits as a row of the database, not in a worker's memory, and `taskbridge relay` sends it when it is due"

BEHAVIOURS = {
    "rate_limit": Behaviour(Level.STOPS, "Kafka workers have no rate limits; its service is refused in live"),
    "priority": Behaviour(Level.STOPS, "A topic has no priorities; its service is refused in live"),
    "pickle": Behaviour(Level.STOPS, "Pickle is refused: who can write it to a topic can run anything"),
    "result_backend": Behaviour(Level.STOPS, "Results over Celery's broker do not reach callers from a Kafka worker"),
    "request_class": Behaviour(Level.STOPS, "A Request class of the task's own is not used by the Kafka worker"),
    "broadcast": Behaviour(Level.STOPS, "A queue that broadcasts reaches every Celery worker; a record is run once"),
    "eta": Behaviour(Level.DIFFERS, _RELAY),
    "long_eta": Behaviour(
        Level.DIFFERS,
        "Beyond the broker's visibility timeout Celery gets it again and again; the bridge keeps one row",
    ),
    "retry": Behaviour(Level.DIFFERS, f"A retry is a new message. {_RELAY}"),
    "acks_early": Behaviour(
        Level.DIFFERS,
        "If its executor dies it becomes a dead letter (`worker_lost`) where Celery loses it; if the whole worker is "
        "killed it runs again",
    ),
    "reject_on_worker_lost": Behaviour(
        Level.DIFFERS, "It runs again after its executor died, `max_deliveries` times in all, then it is a dead letter"
    ),
    "reject": Behaviour(Level.DIFFERS, "`Reject(requeue=False)` also leaves a dead letter"),
    "canvas": Behaviour(
        Level.DIFFERS,
        "Each step is a message with a route of its own: a canvas may span both sides, joined by the result backend",
    ),
    "by_name": Behaviour(
        Level.DIFFERS,
        "Where the task is not registered, its key is found among keyword arguments only; else the id serves",
    ),
    "queue_option": Behaviour(
        Level.DIFFERS,
        "It goes to the topic of the task's service, whatever queue, exchange or routing key is named",
    ),
    "priority_option": Behaviour(
        Level.DIFFERS, "That one message goes to Celery although its service is live; the report counts a fall-back"
    ),
    "publish_option": Behaviour(
        Level.DIFFERS, "A connection, producer or retry policy that a call brings is used on the way to Celery only"
    ),
    "control": Behaviour(
        Level.DIFFERS,
        "`revoke`, `inspect` and `control` are for Celery's workers: see what Kafka's offer of them",
    ),
    "durable_atomic": Behaviour(
        Level.DIFFERS, "`atomic(durable=True)` raises inside another transaction: the task cannot declare `once=True`"
    ),
    "worker_signal": Behaviour(
        Level.DIFFERS, "The Kafka worker sends the signals of tasks and processes, not those of Celery's consumer"
    ),
    "worker_step": Behaviour(Level.DIFFERS, "Bootsteps belong to Celery's worker and do not run in the Kafka worker"),
    "past_bridge": Behaviour(
        Level.DIFFERS,
        "Published past Celery's task sender: the bridge does not see it, and it stays on the broker",
    ),
    "unregistered": Behaviour(
        Level.DIFFERS, "No code that was read registers a task of this name: its worker must be another program"
    ),
    "acks_late": Behaviour(Level.SAME, "A record counts as done when the task has ended"),
    "add_to_chord": Behaviour(Level.SAME, "The result backend counts the added task as Celery's does"),
    "apply": Behaviour(Level.SAME, "`apply()` and eager mode stay in the caller's process"),
    "base_class": Behaviour(Level.SAME, "Handlers such as `on_failure` run as in a Celery worker"),
    "beat": Behaviour(Level.SAME, "Beat dispatches through the same hook"),
    "bind": Behaviour(Level.SAME, "`self.request` has the same fields"),
    "compression": Behaviour(Level.SAME, "The body's bytes are those that Celery made"),
    "expires": Behaviour(Level.SAME, "Looked at when the task is about to run"),
    "headers": Behaviour(Level.SAME, "Headers, stamps and properties travel in the record"),
    "ignore_result": Behaviour(Level.SAME, "No result is stored"),
    "link": Behaviour(Level.SAME, "Callbacks and error callbacks are dispatched as in Celery"),
    "on_commit": Behaviour(Level.SAME, "It is dispatched once the caller's transaction is committed"),
    "replace": Behaviour(Level.SAME, "The replacement is a new message with the same id"),
    "serializer": Behaviour(Level.SAME, "The body's bytes are those that Celery made"),
    "soft_time_limit": Behaviour(Level.SAME, "Raised inside the task"),
    "task_id": Behaviour(Level.SAME, "The id is kept"),
    "throws": Behaviour(Level.SAME, "Expected errors are logged as Celery logs them"),
    "time_limit": Behaviour(Level.SAME, "The executor is killed, as in a prefork pool"),
    "track_started": Behaviour(Level.SAME, "The state is stored when the task begins"),
    "update_state": Behaviour(Level.SAME, "States go to the result backend"),
}
"""By the feature's name. Every name that the scan reports is here."""
