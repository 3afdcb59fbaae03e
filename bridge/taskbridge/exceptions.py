"""
Every error that taskbridge raises on purpose.

    TaskbridgeError
    ├── ConfigurationError        a setting, version or resource is wrong: nothing starts
    │   └── TransitionRefused     a service may not enter the stage that was asked for
    │       └── TransitionOvertaken   somebody else moved it meanwhile
    ├── RecordError               this record will never run: it goes to the dead-letter topic
    │   ├── MalformedRecord
    │   └── UnknownTask
    ├── PublishError
    │   ├── PublishRefused        the broker certainly does not have the record: Celery may take it
    │   └── PublishAmbiguous      the broker may have the record: only the same road may repeat it
    ├── MessageTooLarge           a message that no topic takes was refused at dispatch; sending it again is no use
    ├── LeaseLost                 another process has taken over what this one was running
    └── Unavailable               a server could not be reached in time
        ├── BrokerUnavailable
        └── StoreUnavailable

Each message is one sentence for a person: what happened, where, and what to do about it.
"""

from __future__ import annotations


class TaskbridgeError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(TaskbridgeError):
    """A setting, a version or a resource does not fit; the process should end with a non-zero status."""


class TransitionRefused(ConfigurationError):
    """A service may not enter the stage that was asked for; nothing has changed."""


class TransitionOvertaken(TransitionRefused):
    """A flag is not any more as the request took it to be; look at it, then ask again."""


class RecordError(TaskbridgeError):
    """
    A record that can never be executed.

    `reason` is the short machine-readable word that the dead-letter record carries.
    """

    reason = "record_error"


class MalformedRecord(RecordError):
    """A record whose value or headers cannot be decoded."""

    reason = "malformed"


class UnknownTask(RecordError):
    """A record that names a task which this worker's application has not registered."""

    reason = "unknown_task"


class PublishError(TaskbridgeError):
    """A record was not confirmed by the broker."""


class PublishRefused(PublishError):
    """The broker certainly does not hold the record, so another road may be taken at once."""


class PublishAmbiguous(PublishError):
    """The broker may or may not hold the record; sending it by another road could run it twice."""


class MessageTooLarge(TaskbridgeError, ValueError):
    """
    A message is too large for a record, and was sent nowhere.

    A ValueError and no error of a publish: trying again is no use, neither for the caller nor for Celery's own retries.
    """


class LeaseLost(TaskbridgeError):
    """Another process has taken over a task that runs once; what this one did must be undone."""


class Unavailable(TaskbridgeError):
    """A server did not answer in time; the same call may succeed later."""


class BrokerUnavailable(Unavailable):
    """Kafka did not answer in time."""


class StoreUnavailable(Unavailable):
    """The database that holds flags and pending rows did not answer in time."""
