"""What an operator under measurement says and takes: its metrics, its processor time, its memory."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.grounds import BenchmarkFailedError, cpu_seconds

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Look:
    """The operator at one moment."""

    at: float
    """Seconds of a clock that only goes forward."""
    cpu: float
    """Seconds of processor time so far."""
    text: str
    """Its metrics, as Prometheus reads them."""

    @classmethod
    def at_process(cls, pid: int, text: str) -> Look:
        """Return a look of now at a process that has just told its metrics."""
        return cls(time.perf_counter(), cpu_seconds(pid), text)

    def series(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield labels and value of every series of a name."""
        for line in self.text.splitlines():
            if not line.startswith(name) or line[len(name)] not in " {":
                continue
            labels, _, value = line[len(name) :].rpartition(" ")
            yield dict(_LABEL.findall(labels)), float(value)

    def total(self, name: str) -> float:
        """Return the sum over all series of a name."""
        return sum(value for _, value in self.series(name))

    def written(self, verb: str, resource: str) -> float:
        """Return how often the Kubernetes API has taken a request of that kind."""
        wanted = {"verb": verb, "resource": resource}
        return sum(value for found, value in self._requests() if wanted.items() <= found.items() and _taken(found))

    def refused(self) -> float:
        """Return how many requests of any kind the Kubernetes API refused or did not answer."""
        return sum(value for found, value in self._requests() if not _taken(found))

    def _requests(self) -> Iterator[tuple[dict[str, str], float]]:
        return self.series("lagscaler_kubernetes_requests_total")


def _taken(labels: Mapping[str, str]) -> bool:
    return labels["code"].startswith("2")


def figures(before: Look, after: Look, consumers: int, poll: float) -> dict[str, float]:
    """
    Return what an operator with so many consumers did and took between two looks.

    Raises BenchmarkFailedError when it did not look at Kafka meanwhile.
    """
    seconds = after.at - before.at

    def grown(name: str) -> float:
        return after.total(name) - before.total(name)

    def written(verb: str, resource: str) -> float:
        return (after.written(verb, resource) - before.written(verb, resource)) / seconds

    looks = grown("lagscaler_sample_seconds_count")
    delays = Histogram.between(before, after, "lagscaler_decision_delay_seconds")
    if not looks or not delays.count:
        raise BenchmarkFailedError(f"the operator looked at nothing within {seconds:.0f} s")
    return {
        "core_share": (after.cpu - before.cpu) / seconds,
        "decision_delay_median": delays.quantile(0.5),
        "decision_delay_at_most": delays.at_most,
        "sampling_seconds": grown("lagscaler_sample_seconds_sum") / looks,
        "looks": looks,
        "decisions_per_look": grown("lagscaler_decisions_total") / (consumers * looks),
        "decisions_per_poll": grown("lagscaler_decisions_total") / (consumers * seconds / poll),
        "status_writes_per_second": written("patch", "kafkaconsumers/status"),
        "scale_writes_per_second": written("patch", "deployments/scale"),
        "events_per_second": written("create", "events") + written("patch", "events"),
        "requests_failed": after.refused() - before.refused(),
        "incomplete_looks": grown("lagscaler_sample_errors_total"),
    }


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations by buckets: upper bounds, ascending, and how many were up to each of them but above the last."""

    buckets: tuple[tuple[float, float], ...]
    sum: float

    @classmethod
    def between(cls, before: Look, after: Look, name: str) -> Histogram:
        """Return what was observed between two looks, whatever the labels."""
        bounds: dict[float, float] = {}
        for look, sign in ((after, 1.0), (before, -1.0)):
            for labels, value in look.series(f"{name}_bucket"):
                bound = float(labels["le"])
                bounds[bound] = bounds.get(bound, 0.0) + sign * value
        found, below = [], 0.0
        for bound, upto in sorted(bounds.items()):
            found.append((bound, upto - below))
            below = upto
        return cls(tuple(found), after.total(f"{name}_sum") - before.total(f"{name}_sum"))

    @property
    def count(self) -> float:
        """How many there were."""
        return sum(count for _, count in self.buckets)

    @property
    def at_most(self) -> float:
        """A value that no observation exceeded: the bound of the last bucket that has one; there must be one."""
        last = max(bound for bound, count in self.buckets if count)
        # Beyond the last bound only the sum says anything.
        return self.sum if math.isinf(last) else last

    def quantile(self, part: float) -> float:
        """Return the value below which a part of them lie, as if they were spread evenly within a bucket."""
        wanted, lower = part * self.count, 0.0
        for bound, count in self.buckets:
            if count and count >= wanted:
                return lower + (min(bound, self.at_most) - lower) * wanted / count
            wanted, lower = wanted - count, bound
        raise ValueError("there is no quantile of no observations")


def memory_mib(pid: int) -> tuple[float, float]:
    """Return what a process holds in memory, and the most that it ever held."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(fields[name].split()[0]) / _KIB for name in ("VmRSS", "VmHWM"))
    return now, most
