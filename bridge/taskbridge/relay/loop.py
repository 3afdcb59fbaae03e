"""The loop: pass over the tables, wait until something is due, carry on when a server is back."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskbridge.exceptions import StoreUnavailable, TaskbridgeError
from taskbridge.relay.batch import ROADS, Passage, Sender
from taskbridge.relay.rows import Keeper, RelayStore, Table, WaitingRow

log = logging.getLogger("taskbridge.relay")

LONGEST_PAUSE = 5.0
"""Seconds between attempts while a server is away; the first pause is the poll interval, and each next one doubles."""

NAP = 0.25
"""Seconds after which a sleeping relay looks whether it was told to stop."""

LIFT_INTERVAL = 1.0
"""Seconds between two looks whether held messages may go on."""

WORK_SHARE = 2.0
"""While rows wait for a server that is away, the relay rests this many times as long as it takes to look at them."""

DATABASE, FENCES = "the database", "what held messages wait for"
"""What a relay needs besides its ROADS."""


@dataclass(slots=True)
class Totals:
    """Messages sent since the relay began."""

    celery: int = 0
    kafka: int = 0


@dataclass(slots=True)
class _Trouble:
    """A server that is away, and when to try it again (on the monotonic clock)."""

    why: str
    pause: float
    retry_at: float


class Relay:
    """Empties the tables until it is told to stop; may run any number of times beside itself."""

    def __init__(
        self,
        store: RelayStore,
        sender: Sender,
        batch: int = 500,
        poll: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        keepers: Sequence[Keeper] = (),
    ) -> None:
        """
        `batch` rows go in one transaction; `poll` is the longest pause in seconds between two looks.

        `keepers` are asked before the tables are looked at, and every second while they keep the relay busy.
        """
        self.totals = Totals()
        self.failures: Counter[str] = Counter()
        """How often each of DATABASE, FENCES and the roads was found not to answer; any thread may read it."""
        self.reached = False
        """Whether the database has ever answered; any thread may read it."""
        self.turned_at = clock()
        """When the loop last came round; any thread may read it."""
        self._store = store
        self._sender = sender
        self._batch = batch
        self._poll = poll
        self._clock = clock
        self._sleep = sleep
        self._keepers = keepers
        self._next_lift = float("-inf")
        self._stopping = False
        self._troubles: dict[str, _Trouble] = {}

    @property
    def trouble(self) -> dict[str, str]:
        """What does not answer at the moment (`the database`, `Kafka`, `Celery's broker`), with its sentence."""
        return {what: trouble.why for what, trouble in self._troubles.items()}

    def stop(self) -> None:
        """Finish the batch under way and return from `run`; safe to call from a signal handler or another thread."""
        # A plain attribute: an Event's lock may be held by the very thread that a signal handler interrupts.
        self._stopping = True

    def run(self, *, once: bool = False) -> Totals:
        """
        Send what is due until `stop`; with `once`, until nothing is left that could be sent.

        Raises nothing of a server that does not answer: its rows are kept, and `trouble` names it.
        """
        while not self._stopping:
            began = self._clock()
            moved, left = self._pass()
            if once and not moved:
                break
            if not moved:
                self._rest(left, WORK_SHARE * (self._clock() - began))
        return self.totals

    def _pass(self) -> tuple[bool, bool]:
        """Go through both tables once; return whether anything was sent, and whether due rows are left."""
        now = self._clock()
        passage = Passage()
        for road, what in ROADS.items():
            trouble = self._troubles.get(what)
            if trouble is not None and now < trouble.retry_at:
                passage.down[road] = trouble.why
            elif trouble is not None:
                passage.doubted.add(road)
        closed = set(passage.down)
        places: dict[Table, WaitingRow | None] = {"outbox": None, "delayed": None}
        left = False
        failure = ""
        try:
            # In turns: a table that fills faster than it empties must not starve the other.
            while places and not self._stopping:
                self._lift()
                for table in tuple(places):
                    left |= self._step(table, places, passage)
        except StoreUnavailable as error:
            failure = str(error)
        self.reached = self.reached or not failure
        self._judge(DATABASE, failure, works=not failure)
        for road, what in ROADS.items():
            if road not in closed:
                self._judge(what, passage.down.get(road, ""), works=passage.sent[road] > 0)
        self.totals.celery += passage.sent["celery"]
        self.totals.kafka += passage.sent["kafka"]
        return sum(passage.sent.values()) > 0 and not failure, left

    def _lift(self) -> None:
        if not self._keepers or self._clock() < self._next_lift:
            return
        self._next_lift = self._clock() + LIFT_INTERVAL
        failure = ""
        for keeper in self._keepers:
            try:
                keeper.lift()
            except TaskbridgeError as error:
                failure = str(error)
        self._judge(FENCES, failure, works=not failure)

    def _step(self, table: Table, places: dict[Table, WaitingRow | None], passage: Passage) -> bool:
        """Send one batch of a table, and move its place on; return whether rows are left behind."""
        self.turned_at = self._clock()
        with self._store.claim(table, self._batch, places[table]) as claim:
            if not claim.rows:
                del places[table]
                return claim.busy
            sent = self._sender.send(claim, passage)
        self._sender.observe(sent)
        if sent.left and not sent.again:
            places[table] = claim.rows[-1]
        return sent.left and not sent.again

    def _judge(self, what: str, failure: str, *, works: bool) -> None:
        known = self._troubles.get(what)
        if failure:
            self.failures[what] += 1
            if known is None:
                log.warning("%s does not answer; messages are kept and tried again: %s", what, failure)
            pause = self._poll if known is None else min(known.pause * 2, LONGEST_PAUSE)
            self._troubles[what] = _Trouble(failure, pause, self._clock() + pause)
        elif known is not None and works:
            log.warning("%s answers again", what)
            del self._troubles[what]

    def _rest(self, left: bool, at_least: float) -> None:
        database = self._troubles.get(DATABASE)
        if database is not None:
            self._nap(database.pause)
        elif left:
            self._nap(max(self._poll, at_least))
        else:
            try:
                due = self._store.next_due()
            except StoreUnavailable as error:
                self._judge(DATABASE, str(error), works=False)
                due = None
            self._nap(self._poll if due is None else min(self._poll, due))

    def _nap(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._stopping and (rest := until - self._clock()) > 0:
            self.turned_at = self._clock()
            self._sleep(min(rest, NAP))
