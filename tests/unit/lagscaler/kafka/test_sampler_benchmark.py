"""What the benchmark gives the policy is what the operator gives it."""

from __future__ import annotations

import asyncio

from benchmarks.sampler import POLL, RATE, Consumers
from lagscaler.kafka.sampler import Reading
from lagscaler.policy.decide import decide
from lagscaler.policy.model import PartitionSample, Reason, State


def test_the_time_before_the_first_poll_is_that_of_a_consumer_that_keeps_up() -> None:
    consumers = Consumers(topics=2, partitions=3, consumers=4)
    readings: dict[object, Reading] = {
        request.key: Reading(
            1e9, {(request.topics[0], number): PartitionSample(1e5, 1e6, 1e6, busy=0.5) for number in range(3)}
        )
        for request in consumers.requests
    }
    consumers.remember(readings)
    (samples, *_others) = consumers.samples
    assert len(samples) == consumers.spec.window / POLL
    assert {later.at - earlier.at for earlier, later in zip(samples, list(samples)[1:], strict=False)} == {POLL}
    decision = decide(samples, consumers.spec, State())
    assert decision.arrival_rate == 3 * RATE / POLL
    assert decision.reason is not Reason.STALLED
    asyncio.run(consumers.decide(readings))
    assert consumers.samples[0][-1].at == 1e9
