"""Schedules against their formulas."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradloom.config.binding import convert
from gradloom.config.schedules import Schedule, at
from gradloom.config.source import parse
from gradloom.errors import Fault


def schedule(text: str) -> Schedule:
    node, _ = parse(text, "x.yml")
    assert node is not None
    found = convert(node, Schedule, faults := list[Fault]())
    assert faults == []
    assert isinstance(found, Schedule)
    return found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{linear: {from: 1, to: 3, start: 10, end: 20}}", {0: 1, 10: 1, 15: 2, 20: 3, 99: 3}),
        ("{linear: {from: 1, to: 0, end: 4}}", {0: 1, 1: 0.75, 4: 0, 5: 0}),
        ("{cosine: {from: 1, to: 0, start: 10, end: 20}}", {9: 1, 10: 1, 15: 0.5, 20: 0, 30: 0}),
        ("{cosine: {from: 2, to: 4, end: 3}}", {0: 2, 1: 2.5, 2: 3.5, 3: 4}),
        ("{exponential: {from: 1, to: 100, start: 2, end: 6}}", {0: 1, 2: 1, 4: 10, 6: 100, 7: 100}),
        ("{stepped: {points: [[0, 1], [10, 0.5], [20, 2]]}}", {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 2, 99: 2}),
        ("{stepped: {points: [[5, 3]]}}", {0: 3, 5: 3, 6: 3}),
        ("{ema_warmup: {to: 0.8}}", {0: 0, 1: 1 / 2, 2: 2 / 3, 3: 3 / 4, 4: 0.8, 99: 0.8}),
        ("{ema_warmup: {to: 0.9, power: 2, inverse_gamma: 4, start: 3}}", {2: 0, 3: 0, 7: 3 / 4, 11: 8 / 9, 99: 0.9}),
        ("{type: fixed, weight: 3}", {0: 3, 100: 3}),
        ("{type: linear_decay, initial_weight: 4, steps: 8, lower_bound: 0}", {0: 4, 2: 3, 8: 0, 9: 0}),
        ("{type: linear_decay, initial_weight: 4, steps: 8, lower_bound: 2, start_step: 10}", {0: 4, 14: 3, 30: 2}),
        ("{type: sinusoidal, upper_weight: 3, lower_weight: 1, period: 8}", {0: 3, 2: 2, 4: 1, 6: 2, 8: 3}),
        ("{type: sinusoidal, upper_weight: 3, lower_weight: 1, period: 8, start_step: 4}", {0: 3, 4: 3, 8: 1}),
    ],
)  # fmt: skip
def test_a_schedule_has_these_values(text: str, values: dict[int, float]) -> None:
    found = schedule(text)
    assert {time: found.at(time, 7) for time in values} == pytest.approx(values)
    assert found.bounds == (min(values.values()), max(values.values()))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    start=st.integers(0, 100),
    length=st.integers(1, 100),
    low=st.floats(1e-3, 1e3),
    high=st.floats(1e-3, 1e3),
    time=st.integers(0, 300),
)
def test_ramps_follow_their_formulas(start: int, length: int, low: float, high: float, time: int) -> None:
    ends = f"from: {low!r}, to: {high!r}, start: {start}, end: {start + length}"
    share = min(1, max(0, (time - start) / length))
    assert schedule(f"{{linear: {{{ends}}}}}").at(time, 1) == pytest.approx(low + (high - low) * share)
    half_wave = high + (low - high) * (1 + math.cos(math.pi * share)) / 2
    assert schedule(f"{{cosine: {{{ends}}}}}").at(time, 1) == pytest.approx(half_wave)
    assert schedule(f"{{exponential: {{{ends}}}}}").at(time, 1) == pytest.approx(low * (high / low) ** share)


def test_epochs_count_in_fractions() -> None:
    found = schedule("{linear: {from: 0, to: 1, end: 2, unit: epoch}}")
    assert [found.at(iteration, 10) for iteration in (0, 5, 10, 20, 25)] == [0, 0.25, 0.5, 1, 1]


def test_a_number_is_the_same_at_all_times() -> None:
    assert at(0.5, 0, 1) == at(0.5, 1000, 1) == 0.5
    assert at(schedule("{linear: {from: 0, to: 1, end: 10}}"), 5, 1) == 0.5


def test_the_kinds_are_these() -> None:
    assert sorted(Schedule.kinds) == [
        "cosine", "ema_warmup", "exponential", "fixed", "linear", "linear_decay", "sinusoidal", "stepped",
    ]  # fmt: skip
