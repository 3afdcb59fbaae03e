"""The JSON forms."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagscaler.policy import document
from lagscaler.policy.decide import decide
from lagscaler.policy.model import Gap, OffsetReset, PartitionSample, Sample, Spec, State
from tests.unit.lagscaler.policy.scenes import Group

numbers = st.integers(0, 10_000_000).map(lambda thousandths: thousandths / 1000)
partitions = st.tuples(st.sampled_from(["orders", "a-b", "a-1"]), st.integers(0, 99))
maybe = st.one_of(st.none(), numbers)

states = st.builds(
    State,
    **dict.fromkeys(
        [
            "capacity",
            "start_delay",
            "last_up",
            "last_down",
            "rate_before",
            "last_complete",
            "idle_since",
            "quiet_since",
        ],
        maybe,
    ),
    changes=st.lists(numbers, max_size=4).map(tuple),
    breaches=st.integers(0, 9),
    baselines=st.dictionaries(partitions, numbers, max_size=3),
    phantoms=st.dictionaries(partitions, numbers, max_size=3),
    lost_commits=st.dictionaries(partitions, numbers, max_size=3),
    awaited=st.dictionaries(partitions, numbers, max_size=3),
    markers=st.dictionaries(partitions, numbers, max_size=3),
    asked_for=st.one_of(st.none(), st.integers(0, 99)),
)
samples = st.builds(
    Sample,
    at=numbers,
    partitions=st.dictionaries(
        partitions,
        st.builds(
            PartitionSample,
            numbers,
            numbers,
            maybe,
            numbers,
            st.one_of(st.none(), st.floats(0, 1).map(lambda x: round(x, 2))),
            st.one_of(st.none(), st.text(max_size=5)),
            maybe,
        ),
        max_size=3,
    ),
    replicas=st.integers(0, 99),
    ready=st.integers(0, 99),
    members=st.one_of(st.none(), st.integers(0, 99)),
    rebalancing=st.booleans(),
    gaps=st.dictionaries(st.sampled_from(Gap), st.text(max_size=9), max_size=2),
)


@given(states)
def test_a_state_comes_back(state):
    assert document.parse_state(json.loads(json.dumps(document.state_document(state)))) == state


@given(samples)
def test_a_sample_comes_back(sample):
    assert document.parse_sample(json.loads(json.dumps(document.sample_document(sample)))) == sample


def test_a_spec_comes_back():
    spec = Spec(latency=5, max_replicas=7, to_zero=True, offset_reset="latest", fallback_replicas=3)
    assert document.spec_document(spec) == {
        "latency": 5, "maxReplicas": 7, "toZero": True, "offsetReset": "latest", "fallbackReplicas": 3,
    }  # fmt: skip
    assert document.parse_spec(document.spec_document(spec)) == spec
    assert document.parse_spec({}) == Spec()


def test_what_is_usual_is_left_out():
    assert document.state_document(State()) == {"version": 1}
    assert document.sample_document(Sample(1.0, {}, 2, 2)) == {"at": 1.0, "partitions": {}, "replicas": 2, "ready": 2}


@pytest.mark.parametrize(
    ("parse", "wrong", "says"),
    [
        pytest.param(document.parse_state, {}, "version None", id="no version"),
        pytest.param(document.parse_state, "x", "state: an object", id="a text for a state"),
        pytest.param(document.parse_state, [], "state: an object", id="a list for a state"),
        pytest.param(document.parse_state, {"version": 2}, "version 2", id="another version"),
        pytest.param(document.parse_state, {"version": 1, "capacity": "9"}, "capacity: '9'", id="a text"),
        pytest.param(document.parse_state, {"version": 1, "changes": 3}, "changes: a list", id="no list"),
        pytest.param(document.parse_state, {"version": 1, "changes": ["a"]}, "changes: 'a'", id="no number"),
        pytest.param(document.parse_state, {"version": 1, "baselines": []}, "baselines: an object", id="no object"),
        pytest.param(document.parse_state, {"version": 1, "baselines": {"x": 1}}, "'x' does not name", id="no key"),
        pytest.param(document.parse_state, {"version": 1, "lostCommits": 7}, "lostCommits: an object", id="no times"),
        pytest.param(document.parse_state, {"version": 1, "awaited": {"a-1": "7"}}, "awaited: '7'", id="no offset"),
        pytest.param(document.parse_state, {"version": 1, "markers": [1]}, "markers: an object", id="no ends"),
        pytest.param(document.parse_state, {"version": 1, "breaches": 1.5}, "breaches: 1.5", id="no whole number"),
        pytest.param(document.parse_state, {"version": 1, "capacity": True}, "capacity: True", id="true is no number"),
        pytest.param(document.parse_spec, {"latency": float("nan")}, "latency: nan", id="not a number"),
        pytest.param(document.parse_spec, [1], "spec: an object is expected", id="a list for a spec"),
        pytest.param(document.parse_sample, 5, "sample: an object is expected", id="a number for a sample"),
        pytest.param(document.parse_spec, {"toZero": 1}, "toZero: 1", id="one is not true"),
        pytest.param(document.parse_spec, {"latency": None}, "latency: None", id="nothing where something must be"),
        pytest.param(
            document.parse_sample, {"at": 1.0, "partitions": {}, "ready": 1}, "replicas is missing", id="lacks"
        ),
        pytest.param(
            document.parse_sample,
            {"at": 1.0, "partitions": {"a-0": {"start": 0}}, "replicas": 1, "ready": 1},
            "end is missing",
            id="lacks within",
        ),
        pytest.param(
            document.parse_sample,
            {"at": 1.0, "partitions": {}, "replicas": 1, "ready": 1, "gaps": {"Moon": "full"}},
            "Moon",
            id="no such gap",
        ),
    ],
)
def test_what_is_wrong_is_named(parse, wrong, says):
    with pytest.raises(ValueError, match=says):
        parse(wrong)


def test_unknown_fields_are_ignored():
    assert document.parse_state({"version": 1, "later": 5}) == State()


def test_a_decision_says_all_that_was_seen():
    group = Group()
    group.run(100)
    shown = document.decision_document(decide([group.sample()], Spec(), State()))
    assert json.loads(json.dumps(shown)) == shown
    assert shown["replicas"] == 2
    assert set(shown) == {
        "replicas", "reason", "sentence", "lag", "behind", "wait", "arrivalRate", "capacity", "needed", "partitions",
    }  # fmt: skip


class TestWorthSaving:
    STATE = State(capacity=100, last_complete=1.0, breaches=0)

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            (STATE, False),
            (replace(STATE, last_complete=2.0), False),
            (replace(STATE, capacity=104), False),
            (replace(STATE, capacity=106), True),
            (replace(STATE, capacity=None), True),
            (replace(STATE, breaches=1), True),
            (replace(STATE, changes=(5.0,)), True),
            (replace(STATE, awaited={("a", 1): 7.0}, last_complete=300.0), False),
            (replace(STATE, awaited={("a", 1): 7.0}, last_complete=301.0), True),
            (replace(STATE, markers={("a", 1): 7.0}, last_complete=None), False),
            (replace(STATE, markers={("a", 1): 7.0}, last_complete=301.0), True),
        ],
    )
    def test_table(self, state, expected):
        assert document.worth_saving(self.STATE, state) is expected


def test_every_kind_of_reset_is_a_text():
    assert OffsetReset.__args__ == ("earliest", "latest", "none")
