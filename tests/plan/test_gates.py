"""Gates against looking at every iteration."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from gradloom.gates import Gate

gates = st.builds(
    Gate,
    after=st.integers(0, 14),
    before=st.none() | st.integers(0, 20),
    every=st.integers(1, 6),
)
ENOUGH = range(14 + 20 + 2 * math.lcm(*range(1, 7)))  # what happens later has happened before


def open_in(gate: Gate) -> set[int]:
    return {
        iteration
        for iteration in ENOUGH
        if gate.after <= iteration and (gate.before is None or iteration <= gate.before) and iteration % gate.every == 0
    }


@settings(deadline=None, derandomize=True, max_examples=500)
@given(gates, gates)
def test_two_gates_against_every_iteration(one: Gate, other: Gate) -> None:
    ours, theirs = open_in(one), open_in(other)
    assert {iteration for iteration in ENOUGH if one.open(iteration)} == ours
    assert one.covers(other) == (theirs <= ours)
    assert {iteration for iteration in ENOUGH if (one & other).open(iteration)} == ours & theirs
    assert one.first == min(ours, default=None)
    assert one.always == (ours == set(ENOUGH))


@settings(deadline=None, derandomize=True, max_examples=500)
@given(gates, gates)
def test_gates_that_take_turns_against_every_iteration(one: Gate, other: Gate) -> None:
    ours, theirs = open_in(one), open_in(other)
    assert one.excludes(other) == (not ours & theirs)
    assert open_in(one | other) >= ours | theirs


@settings(deadline=None, derandomize=True, max_examples=500)
@given(gates, st.lists(gates, max_size=3))
def test_what_gates_cover_together_against_every_iteration(one: Gate, others: list[Gate]) -> None:
    together = set().union(*map(open_in, others))
    assert not one.covered_by(others) or open_in(one) <= together


def test_gates_that_take_over_from_one_another_cover_what_follows() -> None:
    turns = [Gate(after=20), Gate(before=9), Gate(after=10, before=19)]
    assert Gate().covered_by(turns) and Gate(every=3).covered_by(turns)
    assert not Gate().covered_by(turns[:2])
    assert Gate(before=9).covered_by(turns[:2]) and not Gate(before=10).covered_by(turns[:2])
    assert Gate(every=6).covered_by([Gate(before=11, every=3), Gate(after=12, every=2)])


def test_a_gate_in_words() -> None:
    assert str(Gate()) == "always"
    assert str(Gate(3, 7, 2)) == "after: 3, before: 7, every: 2"
    assert str(Gate(before=0)) == "before: 0"
