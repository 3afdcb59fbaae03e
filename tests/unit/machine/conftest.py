"""How much hypothesis plays: a minute at most, always the same games; with `--hypothesis-profile=long` new ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example]

settings.register_profile(
    "long", max_examples=10_000, stateful_step_count=80, deadline=None, suppress_health_check=SLOW
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep what the product says of thousands of failures from being formatted."""
    logger = logging.getLogger("taskbridge")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)
