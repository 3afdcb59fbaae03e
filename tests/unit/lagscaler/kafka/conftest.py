"""For all of them: what is tried again is tried again at once."""

import pytest

from lagscaler.kafka import groupview, logs


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groupview, "PAUSE", 0.0)
    monkeypatch.setattr(logs, "PAUSE", 0.0)
