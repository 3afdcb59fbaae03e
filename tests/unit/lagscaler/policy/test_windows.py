"""Burrow's rules, each a row, and its own cases in our terms."""

from __future__ import annotations

import pytest

from lagscaler.policy.model import PartitionState, Spec
from lagscaler.policy.windows import judge
from tests.unit.lagscaler.policy.scenes import KEY, one

SPEC = Spec(stall_after=100)

OK, LAGGING, STALLED = PartitionState.OK, PartitionState.LAGGING, PartitionState.STALLED
STOPPED, REWOUND, PHANTOM = PartitionState.STOPPED, PartitionState.REWOUND, PartitionState.PHANTOM


def rows(*offsets, step=50, **kwargs):
    """Return samples at every `step` seconds from pairs of committed and end offset."""
    return [one(index * step, committed, end, **kwargs) for index, (committed, end) in enumerate(offsets)]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param(rows((10, 10), (20, 20)), OK, id="no lag"),
        pytest.param(rows((100, 200), (100, 150), (150, 150)), OK, id="rule 1: no lag now"),
        pytest.param(rows((100, 200), (200, 200), (200, 260)), OK, id="rule 1: no lag at some time in the window"),
        pytest.param(rows((0, 300), (200, 400), (100, 400)), REWOUND, id="rule 2: the offset went back"),
        pytest.param(rows((0, 300), (200, 400), (100, 400), (300, 400)), REWOUND, id="rule 2: went back, then on"),
        pytest.param(
            rows((0, 300), (200, 400), (100, 400), (300, 500), (400, 600), (500, 600)),
            OK,
            id="rule 2: that was before the window",
        ),
        pytest.param(
            rows((100, 200), (100, 250), (100, 300), member=None, members=0), STOPPED, id="rule 3: nobody is there"
        ),
        pytest.param(rows((100, 200), (100, 250), (100, 300)), STALLED, id="rule 4: the offset stands still"),
        pytest.param(rows((100, 200), (100, 200), (100, 200)), STALLED, id="rule 4: even when the lag does not grow"),
        pytest.param(rows((100, 200), (100, 250)), OK, id="rule 4: not long enough"),
        pytest.param(rows((100, 200), (150, 300), (200, 400)), LAGGING, id="rule 5: lag never shrinks"),
        pytest.param(rows((100, 200), (180, 250), (200, 400)), OK, id="rule 5: it shrank in between"),
        pytest.param(rows((100, 200), (150, 250), (200, 300)), OK, id="rule 5: it keeps up"),
        pytest.param(rows((0, 300), (200, 400), (100, 900)), REWOUND, id="the worse of two: rewound and lagging"),
    ],
)
def test_rules(samples, expected):
    assert judge(samples, KEY, SPEC) is expected


BURROW = [
    pytest.param([(3000, 3000), (4000, 4150), (5000, 5200)], {}, OK, id="0 lag was zero"),
    pytest.param(
        [(1000, 1000), (2000, 2050), (5000, 5200), (5000, 5200), (5000, 5200)],
        {"member": None, "members": 0},
        STOPPED,
        id="2 no commits for long, though lag was zero before",
    ),
    pytest.param(
        [(1000, 1050), (4000, 4200), (5000, 5250), (5000, 5250), (5000, 5250)],
        {"member": None, "members": 0},
        STOPPED,
        id="3 no commits for long",
    ),
    pytest.param([(1000, 1000), (1000, 1050), (1000, 1100)], {}, OK, id="4 the same offset, but lag was zero"),
    pytest.param([(1000, 1100), (1000, 1150), (1000, 1200)], {}, STALLED, id="5 the same offset"),
    pytest.param([(1000, 1100), (1000, 1100), (1000, 1100)], {}, STALLED, id="6 the same offset and lag"),
    pytest.param(
        [(1000, 1100), (2000, 2150), (3000, 3200), (2000, 3250), (4000, 4300)], {}, REWOUND, id="7 back is worse"
    ),
    pytest.param(
        [(1000, 1050), (4000, 4200), (5000, 5250), (5000, 5250), (5250, 5250)],
        {"member": None, "members": 0},
        OK,
        id="8 no lag now, whatever was",
    ),
    pytest.param(
        [
            (792748079, 792748079),
            (792748093, 792748093),
            (792748093, 792749024),
            (792748093, 792749024),
            (792748093, 792749024),
        ],
        {"member": None, "members": 0},
        STOPPED,
        id="9 lag was always zero, then much came and nobody took it",
    ),
    pytest.param(
        [(792748079, 792748079), (792748093, 792748093), (792748093, 792748093), (792748093, 792748094)],
        {},
        OK,
        id="10 one has just come",
    ),
]


@pytest.mark.parametrize(("offsets", "kwargs", "expected"), BURROW)
def test_the_cases_of_burrow(offsets, kwargs, expected):
    assert judge(rows(*offsets, **kwargs), KEY, SPEC) is expected


class TestATaskAtWork:
    def test_a_busy_owner_is_no_stall(self):
        assert judge(rows((100, 200), (100, 250), (100, 300), busy=1.0), KEY, SPEC) is LAGGING

    def test_one_slow_task_in_an_otherwise_quiet_partition(self):
        assert judge(rows((100, 101), (100, 101), (100, 101), (100, 101), busy=0.25), KEY, SPEC) is OK

    def test_records_finished_beyond_it_are_progress(self):
        samples = [one(0, 100, 200), one(50, 100, 200, beyond=20), one(100, 100, 200, beyond=60)]
        assert judge(samples, KEY, SPEC) is OK

    def test_what_the_last_owner_said_does_not_count_when_nobody_owns_it(self):
        samples = rows((100, 200), (100, 250), (100, 300), busy=0.9, member=None, members=0)
        assert judge(samples, KEY, SPEC) is STOPPED

    def test_an_idle_owner_that_takes_nothing_is_a_stall(self):
        assert judge(rows((100, 200), (100, 250), (100, 300), busy=0.0), KEY, SPEC) is STALLED


class TestWhoCouldHaveWorked:
    def test_a_rebalance_in_the_window_excuses(self):
        samples = rows((100, 200), (100, 250), (100, 300))
        samples[1] = one(50, 100, 250, rebalancing=True, member=None)
        assert judge(samples, KEY, SPEC) is LAGGING

    def test_so_does_having_been_at_zero(self):
        samples = [one(0, 100, 200, replicas=0, members=0, member=None), *rows((100, 250), (100, 300), (100, 300))[1:]]
        assert judge(samples, KEY, SPEC) is LAGGING

    def test_at_zero_nothing_is_stalled(self):
        samples = rows((100, 200), (100, 250), (100, 300), replicas=0, members=0, member=None)
        assert judge(samples, KEY, SPEC) is LAGGING

    def test_members_that_are_not_known_are_taken_to_own_it(self):
        samples = rows((100, 200), (100, 250), (100, 300), members=None, member=None)
        assert judge(samples, KEY, SPEC) is STALLED


class TestPhantoms:
    def test_markers_at_the_end_behind_an_idle_owner(self):
        assert judge(rows((100, 101), (100, 101), (100, 101), busy=0.0), KEY, SPEC) is PHANTOM

    def test_not_when_something_has_come_since(self):
        assert judge(rows((100, 101), (100, 101), (100, 102), busy=0.0), KEY, SPEC) is STALLED

    def test_not_when_it_is_much(self):
        assert judge(rows((100, 103), (100, 103), (100, 103), busy=0.0), KEY, SPEC) is STALLED

    def test_a_consumer_that_does_not_say_gets_longer(self):
        assert judge(rows(*[(100, 101)] * 6), KEY, SPEC) is STALLED
        assert judge(rows(*[(100, 101)] * 7), KEY, SPEC) is PHANTOM

    def test_nothing_committed_is_no_phantom(self):
        assert judge(rows((None, 1), (None, 1), (None, 1), busy=0.0), KEY, SPEC) is STALLED

    def test_it_is_remembered_until_the_log_ends_elsewhere(self):
        at_zero = rows((100, 101), replicas=0, members=0, member=None)
        assert judge(at_zero, KEY, SPEC, phantom=101) is PHANTOM
        assert judge(rows((100, 102), replicas=0, members=0, member=None), KEY, SPEC, phantom=101) is OK
