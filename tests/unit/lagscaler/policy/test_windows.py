"""Burrow's rules, each a row, and its own cases in our terms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lagscaler.policy.model import PartitionSample, PartitionState, Sample, Spec
from lagscaler.policy.windows import judge
from tests.unit.lagscaler.policy.scenes import KEY, NOW, keys, one

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


def beside(*offsets, owner="a", busy=None, step=25):
    """Return samples of a partition that waits, and of another one of which pairs of committed and end are given."""
    this, other = keys(2)
    return [
        Sample(
            NOW + index * step,
            {
                this: PartitionSample(0, 300, 100, busy=busy, member="a"),
                other: PartitionSample(0, end, committed, busy=busy, member=owner),
            },
            replicas=1,
            ready=1,
            members=1,
        )
        for index, (committed, end) in enumerate(offsets)
    ]


class TestOnePartitionAfterTheOther:
    """A consumer that does not say how busy it is, and owns more than one partition."""

    BACKLOG = ((0, 900), (100, 950), (200, 1000), (300, 1050), (400, 1100))

    def test_while_it_works_off_another_backlog_this_one_waits_its_turn(self):
        assert judge(beside(*self.BACKLOG), KEY, SPEC) is OK

    def test_a_first_commit_there_is_work_too(self):
        assert judge(beside((None, 900), (None, 950), (200, 1000), (300, 1050), (400, 1100)), KEY, SPEC) is OK

    def test_while_it_only_keeps_up_there_it_is_stuck_here(self):
        assert judge(beside((90, 100), (190, 200), (290, 300), (390, 400), (490, 500)), KEY, SPEC) is STALLED

    def test_when_it_was_soon_through_there_it_is_stuck_here(self):
        assert judge(beside((0, 400), (200, 400), (400, 450), (450, 500), (500, 550)), KEY, SPEC) is STALLED

    def test_when_it_stands_still_there_as_well_it_is_stuck(self):
        assert judge(beside(*[(0, 900)] * 5), KEY, SPEC) is STALLED

    def test_what_retention_deletes_there_is_no_work(self):
        samples = [
            replace(
                sample,
                partitions={
                    key: replace(one, start=index * 50, committed=0) if key != KEY else one
                    for key, one in sample.partitions.items()
                },
            )
            for index, sample in enumerate(beside(*self.BACKLOG))
        ]
        assert judge(samples, KEY, SPEC) is STALLED

    def test_what_another_member_works_off_says_nothing_about_this_one(self):
        assert judge(beside(*self.BACKLOG, owner="b"), KEY, SPEC) is STALLED

    def test_an_owner_that_says_it_is_idle_is_believed(self):
        assert judge(beside(*self.BACKLOG, busy=0.0), KEY, SPEC) is STALLED


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

    def test_what_is_known_to_be_work_is_none(self):
        samples = rows(*[(100, 101)] * 12)
        assert judge(samples, KEY, SPEC, awaited=100) is STALLED
        assert judge(samples, KEY, SPEC, phantom=101, awaited=100) is STALLED
        assert judge(samples, KEY, SPEC, awaited=99) is PHANTOM

    def test_what_an_owner_says_counts_for_more_than_what_was_known_before(self):
        assert judge(rows(*[(100, 101)] * 3, busy=0.0), KEY, SPEC, awaited=100) is PHANTOM

    def test_nothing_committed_is_no_phantom(self):
        assert judge(rows((None, 1), (None, 1), (None, 1), busy=0.0), KEY, SPEC) is STALLED

    def test_it_is_remembered_until_the_log_ends_elsewhere(self):
        at_zero = rows((100, 101), replicas=0, members=0, member=None)
        assert judge(at_zero, KEY, SPEC, phantom=101) is PHANTOM
        assert judge(rows((100, 102), replicas=0, members=0, member=None), KEY, SPEC, phantom=101) is OK

    def test_what_is_remembered_swallows_no_record(self):
        """Offsets were set back, their commit has expired, or the topic was made anew: real records are waiting."""
        at_zero = {"replicas": 0, "members": 0, "member": None}
        assert judge(rows((0, 101), **at_zero), KEY, SPEC, phantom=101) is OK
        assert judge(rows((None, 2), **at_zero), KEY, SPEC, phantom=2) is OK
        assert judge(rows((0, 1), **at_zero), KEY, SPEC, phantom=101) is OK

    def test_no_longer_than_samples_are_kept(self):
        spec = Spec(stall_after=240, window=600)
        assert judge(rows(*[(100, 101)] * 12), KEY, spec) is STALLED
        assert judge(rows(*[(100, 101)] * 13), KEY, spec) is PHANTOM
