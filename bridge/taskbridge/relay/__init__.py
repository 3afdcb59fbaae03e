"""
The relay: messages that were put aside go their way when they are due.

Any number of replicas may run. A batch is one transaction that holds locks on the keys in it, so the messages of a key
leave in order; a row is deleted in that transaction, after the broker's acknowledgement. A relay that dies in between
leaves rows that are sent once more, and a mark on them by which that repeat is explained.
"""

from taskbridge.relay.batch import Sender
from taskbridge.relay.loop import Relay, Totals
from taskbridge.relay.rows import Claim, Keeper, RelayStore, Side, Table, WaitingRow

__all__ = ["Claim", "Keeper", "Relay", "RelayStore", "Sender", "Side", "Table", "Totals", "WaitingRow"]
