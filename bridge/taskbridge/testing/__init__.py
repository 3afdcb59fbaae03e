"""
For tests of projects: see what would be dispatched where, without any server; and doubles of the bridge's ports.

    with recorded(app, {"orders": "live"}) as dispatched:
        place_order()
    assert [one.road for one in dispatched] == ["kafka"]
"""

from taskbridge.testing.doubles import (
    FakeFlags,
    FakePending,
    FakePublisher,
    FakeResender,
    RecordingObserver,
    settings,
)
from taskbridge.testing.recorder import Dispatched, recorded

__all__ = [
    "Dispatched",
    "FakeFlags",
    "FakePending",
    "FakePublisher",
    "FakeResender",
    "RecordingObserver",
    "recorded",
    "settings",
]
