"""Where a message goes when it is dispatched, and what is written down about it; no framework, no client."""

from taskbridge.dispatch.counters import Counters, Counting
from taskbridge.dispatch.dispatcher import Dispatcher
from taskbridge.dispatch.numbering import Numbering
from taskbridge.dispatch.outgoing import Outgoing
from taskbridge.dispatch.throttle import ThrottledLog

__all__ = ["Counters", "Counting", "Dispatcher", "Numbering", "Outgoing", "ThrottledLog"]
