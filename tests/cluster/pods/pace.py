"""
Consumes one record after the other, each for as many seconds as it begins with, and reports each by mail.

A record whose report is refused is not done: it is tried again for ever.
"""

from __future__ import annotations

import signal
import smtplib
import threading
import time

from client import CLIENT, TOPIC
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

BETWEEN = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION}
"""What the group says to a commit while it has no assignment, or one that has not reached the member yet."""

# Whoever is told to end ends between two records, so that none is done a second time by another.
ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())
consumer = Consumer(
    {
        **CLIENT,
        "group.id": TOPIC,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 30_000,
        "fetch.wait.max.ms": 100,
    }
)
# With a callback a partition is not given away but in a poll. Without one that happens in the middle of a record.
consumer.subscribe([TOPIC], on_revoke=lambda *_: None)


def is_reported(text: str) -> bool:
    """Report a record; return whether the mail server took it."""
    with smtplib.SMTP("mail", 2525, local_hostname="pace", timeout=30) as server:
        try:
            server.sendmail("pace", "reports", text)
        except smtplib.SMTPDataError:
            return False
    return True


def is_done(record: Message) -> bool:
    """Do a record; return False where the end came first."""
    value = record.value().decode()
    time.sleep(float(value.split()[0]))
    text = f"{record.partition()} {record.offset()} {value}"
    if is_reported(text):
        return True
    while not ending.is_set():
        # It stays in the group meanwhile.
        consumer.pause(consumer.assignment())
        consumer.poll(0.5)
        if is_reported(text):
            consumer.resume(consumer.assignment())
            return True
    return False


def commit(record: Message) -> None:
    """Commit a record; from one assignment to the next the group takes no commit for a while."""
    deadline = time.monotonic() + 30
    while True:
        try:
            consumer.commit(record, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in BETWEEN or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


try:
    while not ending.is_set():
        record = consumer.poll(0.5)
        if record is not None and not record.error() and is_done(record):
            commit(record)
finally:
    consumer.close()
