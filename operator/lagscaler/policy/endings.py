"""
Whether the last offsets of a log are work or a transaction's markers, where their owner does not say if it is at work.

A marker comes with the records before it, so behind a commit that stands where it stood before the log came to end
where it does, there is a record. Where the commit came near the end only later, markers may be all that is left; so
may the last record of several. Over a marker a commit leaps as soon as something came behind it, and on a record's end
it lands: where the first was seen, what is left this time is taken for a marker, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lagscaler.policy.model import Sample, Spec, State, TopicPartition
from lagscaler.policy.windows import is_little, left


def remember(history: Sequence[Sample], spec: Spec, state: State) -> State:
    """Return the state after what the last sample shows of the last offsets; what is not in it cannot be told."""
    *earlier, now = history
    awaited: dict[TopicPartition, float] = {}
    markers: dict[TopicPartition, float] = {}
    if not now.complete:
        awaited = {key: at for key, at in state.awaited.items() if key not in now.partitions}
        markers = {key: at for key, at in state.markers.items() if key not in now.partitions}
    for key, partition in now.partitions.items():
        committed = partition.committed
        if committed is None or partition.busy is not None:
            continue
        if not is_little(partition, left(partition, spec, state.baselines.get(key))):
            continue
        before = next((sample.partitions[key] for sample in reversed(earlier) if key in sample.partitions), None)
        if before is None or (before.committed == committed and before.end == partition.end):
            if state.awaited.get(key) == committed:
                awaited[key] = committed
            elif state.markers.get(key) == partition.end:
                markers[key] = partition.end
        elif before.committed is not None and committed <= before.committed:
            if spec.read_committed or committed < before.committed:
                awaited[key] = committed
        elif before.end == partition.end and (
            state.markers.get(key) == partition.end or state.phantoms.get(key, committed) < committed
        ):
            markers[key] = partition.end
    return replace(state, awaited=awaited, markers=markers)


def not_passed(now: Sample, state: State) -> dict[TopicPartition, float]:
    """Return those of the remembered ends behind which something has come, and that the commit is not past yet."""
    return {
        key: end
        for key, end in state.phantoms.items()
        if (one := now.partitions.get(key)) is not None and one.committed is not None and one.committed < end < one.end
    }
