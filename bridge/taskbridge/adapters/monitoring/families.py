"""Every metric of the bridge, in one place; docs/reference/metrics.md is held to it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """One metric: its name as it is queried (of a histogram without `_bucket`, `_sum`, `_count`), and its labels."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


_WORKER = ("service", "role")
_RELAY = ("database",)

WORKER_JOINED = Family(
    "taskbridge_worker_joined", "gauge", _WORKER, "1 once the consumer group has this worker, also without a partition."
)
WORKER_TASKS = Family(
    "taskbridge_worker_tasks_total",
    "counter",
    (*_WORKER, "task", "outcome"),
    "Tasks that ended with nothing left to do.",
)
WORKER_RUN_SECONDS = Family(
    "taskbridge_worker_run_seconds_total", "counter", (*_WORKER, "task"), "Seconds that these tasks took together."
)
WORKER_DURATION = Family(
    "taskbridge_worker_task_duration_seconds", "histogram", _WORKER, "How long these tasks took, of all tasks."
)
WORKER_RECORDS = Family(
    "taskbridge_worker_records_total", "counter", _WORKER, "Records that need never be looked at again."
)
WORKER_DEAD_LETTERS = Family(
    "taskbridge_worker_dead_letters_total",
    "counter",
    (*_WORKER, "reason"),
    "Records that were written to the dead-letter topic.",
)
WORKER_GIVEN_BACK = Family(
    "taskbridge_worker_given_back_total",
    "counter",
    _WORKER,
    "Records that were written to the end of their topic to run again.",
)
WORKER_UNSETTLED = Family(
    "taskbridge_worker_unsettled_records",
    "gauge",
    _WORKER,
    "Records whose dead letter or next delivery Kafka has not confirmed yet.",
)
WORKER_EXECUTORS = Family(
    "taskbridge_worker_executors", "gauge", (*_WORKER, "state"), "Executor processes that are starting, idle or busy."
)
WORKER_DEATHS = Family(
    "taskbridge_worker_executor_deaths_total",
    "counter",
    (*_WORKER, "cause"),
    "Executors that died while they ran a record; timeout: killed at the hard time limit.",
)
WORKER_BUFFERED = Family(
    "taskbridge_worker_buffer_records", "gauge", _WORKER, "Records that were fetched and wait for an executor."
)
WORKER_BUFFERED_BYTES = Family("taskbridge_worker_buffer_bytes", "gauge", _WORKER, "About how many bytes these take.")
WORKER_HELD = Family("taskbridge_worker_held_records", "gauge", _WORKER, "Records that executors have.")
WORKER_PARTITIONS = Family("taskbridge_worker_partitions", "gauge", _WORKER, "Partitions that are assigned.")
WORKER_PAUSED = Family(
    "taskbridge_worker_paused_partitions", "gauge", _WORKER, "Of these, those that are not fetched at the moment."
)
WORKER_LAG = Family(
    "taskbridge_worker_lag_records",
    "gauge",
    (*_WORKER, "partition"),
    "Records that are not finished, as far as the last fetch told.",
)
WORKER_BEHIND = Family(
    "taskbridge_worker_seconds_behind",
    "gauge",
    (*_WORKER, "partition"),
    "Age of the oldest record that was fetched and is not finished; 0 when there is none.",
)
WORKER_COMMITS = Family("taskbridge_worker_commits_total", "counter", _WORKER, "Commits of offsets.")
WORKER_FAILED_COMMITS = Family(
    "taskbridge_worker_failed_commits_total", "counter", _WORKER, "Partitions whose commit failed and is repeated."
)
WORKER_BUSY = Family(
    "taskbridge_worker_busy_ratio", "gauge", _WORKER, "Share of the last five seconds in which it was at work."
)

RELAY_MESSAGES = Family(
    "taskbridge_relay_messages_total", "counter", (*_RELAY, "road"), "Messages that were sent, to celery or kafka."
)
RELAY_PENDING = Family(
    "taskbridge_relay_pending_rows",
    "gauge",
    (*_RELAY, "table", "service"),
    "Rows that wait, in the table delayed or outbox; every replica tells of the same rows.",
)
RELAY_OLDEST = Family(
    "taskbridge_relay_oldest_seconds",
    "gauge",
    (*_RELAY, "table", "service"),
    "For how long the oldest of them could have been sent; 0 while none is due.",
)
RELAY_FAILURES = Family(
    "taskbridge_relay_failures_total",
    "counter",
    (*_RELAY, "server"),
    "How often database, kafka, celery or fences (what held messages wait for) did not answer.",
)
RELAY_TROUBLE = Family("taskbridge_relay_trouble", "gauge", (*_RELAY, "server"), "1 while it does not answer.")

DISPATCH_MESSAGES = Family(
    "taskbridge_dispatch_messages_total",
    "counter",
    ("service", "road"),
    "Messages by the road that they took: celery, kafka, delayed or outbox.",
)
DISPATCH_COPIES = Family(
    "taskbridge_dispatch_copies_total", "counter", ("service", "fate"), "Copies for comparison, sent or lost."
)
DISPATCH_DETOURS = Family(
    "taskbridge_dispatch_detours_total",
    "counter",
    ("service", "reason"),
    "Messages for Kafka that went to Celery (refused, breaker, unsupported), or wait in the outbox (ambiguous).",
)
DISPATCH_BARRIER = Family(
    "taskbridge_dispatch_barrier_total", "counter", ("service",), "Publishes to Kafka that nobody waited for at once."
)
DISPATCH_QUEUED = Family(
    "taskbridge_dispatch_queued_total",
    "counter",
    ("service",),
    "Messages of ordered services that waited in the outbox for their turn.",
)
DISPATCH_UNFENCED = Family(
    "taskbridge_dispatch_unfenced_total",
    "counter",
    ("service",),
    "Messages of ordered services that went out without knowing their turn.",
)
LOST = Family(
    "taskbridge_lost_records_total", "counter", ("topic",), "Copies and observations that did not arrive in Kafka."
)

WORKER = (
    WORKER_JOINED,
    WORKER_TASKS,
    WORKER_RUN_SECONDS,
    WORKER_DURATION,
    WORKER_RECORDS,
    WORKER_DEAD_LETTERS,
    WORKER_GIVEN_BACK,
    WORKER_UNSETTLED,
    WORKER_EXECUTORS,
    WORKER_DEATHS,
    WORKER_BUFFERED,
    WORKER_BUFFERED_BYTES,
    WORKER_HELD,
    WORKER_PARTITIONS,
    WORKER_PAUSED,
    WORKER_LAG,
    WORKER_BEHIND,
    WORKER_COMMITS,
    WORKER_FAILED_COMMITS,
    WORKER_BUSY,
)

RELAY = (RELAY_MESSAGES, RELAY_PENDING, RELAY_OLDEST, RELAY_FAILURES, RELAY_TROUBLE)

DISPATCH = (
    DISPATCH_MESSAGES,
    DISPATCH_COPIES,
    DISPATCH_DETOURS,
    DISPATCH_BARRIER,
    DISPATCH_QUEUED,
    DISPATCH_UNFENCED,
    LOST,
)

FAMILIES = WORKER + RELAY + DISPATCH
