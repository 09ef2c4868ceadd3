"""Learning rate schemes: the ancestor's against its recursions, torch's against stepping them by hand."""

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD, lr_scheduler

from gradloom.config.sections import Train
from gradloom.config.source import parse
from gradloom.errors import Fault
from gradloom.plan.optimizers import bind_lr_scheme, lr_schemes
from gradloom.plan.schemes import CosineAnnealingLR_Restart, MultiStepLR, Scheme


def scheme(text: str, **train: Any) -> Scheme:
    node, _ = parse(f"default_lr_scheme: {text}", "x.yml")
    assert node is not None
    faults: list[Fault] = []
    recipe = bind_lr_scheme(node.fields["default_lr_scheme"], Train(niter=25, **train), faults)
    assert faults == []
    assert recipe is not None
    built: Scheme = recipe.build()
    return built


def test_a_milestone_takes_effect_at_its_iteration() -> None:
    found = scheme("MultiStepLR", gen_lr_steps=[20, 10], lr_gamma=0.5)
    assert [found.lr(8, iteration) for iteration in (0, 9, 10, 19, 20, 1000)] == [8, 8, 4, 4, 2, 2]


def test_milestones_are_those_of_torchs_scheduler_of_that_name() -> None:
    ours = scheme("MultiStepLR", gen_lr_steps=[3, 7, 7, 12], lr_gamma=0.3)
    theirs = scheme("{type: MultiStepLR, milestones: [3, 7, 7, 12], gamma: 0.3}")
    for iteration in range(20):
        assert ours.lr(0.1, iteration) == pytest.approx(theirs.lr(0.1, iteration))


def test_a_forced_rate_is_the_rate() -> None:
    found = scheme("MultiStepLR", gen_lr_steps=[10], force_lr=0.25)
    assert {found.lr(8, iteration) for iteration in (0, 9, 10, 50)} == {0.25}


restarts_in_order = st.dictionaries(st.integers(0, 60), st.floats(0.1, 2), max_size=3).map(
    lambda found: [*found.items()]
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.integers(1, 60), max_size=4), st.floats(0.1, 1), restarts_in_order)
def test_steps_and_restarts_follow_the_ancestors_recursion(
    milestones: list[int], gamma: float, restarts: list[tuple[int, float]]
) -> None:
    found = MultiStepLR(milestones, gamma, restarts)
    rate = 0.1
    for iteration in range(70):
        if iteration in dict(restarts):
            rate = 0.1 * dict(restarts)[iteration]
        elif iteration in milestones:
            rate *= gamma ** milestones.count(iteration)
        assert found.lr(0.1, iteration) == pytest.approx(rate)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    hold=st.integers(0, 10),
    eta_min=st.floats(0, 0.01),
    stretches=st.lists(st.tuples(st.integers(2, 30), st.floats(0.2, 2)), min_size=1, max_size=4),
)
def test_the_cosine_follows_the_ancestors_recursion(
    hold: int, eta_min: float, stretches: list[tuple[int, float]]
) -> None:
    """Each stretch is as long as its period, within which the recursion divides by no zero."""
    initial, starts = 0.1, [0]
    for period, _ in stretches:
        starts.append(starts[-1] + period)
    restarts = [(start, weight) for start, (_, weight) in zip(starts, stretches, strict=False) if start > 0]
    periods = [period for period, _ in stretches]
    found = CosineAnnealingLR_Restart(periods, hold, eta_min, restarts)
    rate, last, period = initial, 0, periods[0]
    for iteration in range(hold + starts[-1]):
        time = iteration - hold
        if time <= 0:
            rate = initial
        elif time in dict(restarts):
            rate, last, period = initial * dict(restarts)[time], time, periods[starts.index(time)]
        else:
            before, after = (1 + math.cos(math.pi * (t - last) / period) for t in (time - 1, time))
            rate = after / before * (rate - eta_min) + eta_min
        assert found.lr(initial, iteration) == pytest.approx(rate, rel=1e-6, abs=1e-12)


def test_the_cosine_ends_each_period_at_its_lower_bound() -> None:
    found = scheme("CosineAnnealingLR_Restart", T_period=[10, 20], restarts=[10], restart_weights=[0.5], eta_min=0.01)
    rates = [found.lr(1, iteration) for iteration in (0, 5, 10, 20, 30)]
    assert rates == pytest.approx([1, 0.505, 0.5, 0.255, 0.01])


def test_a_period_stands_before_each_restart_also_one_at_the_beginning() -> None:
    found = scheme("CosineAnnealingLR_Restart", T_period=[40, 10, 20], restarts=[0, 10], restart_weights=[1, 0.5])
    rates = [found.lr(1, iteration) for iteration in (0, 5, 10, 20, 30)]
    assert rates == pytest.approx([1, 0.5, 0.5, 0.25, 0])


def test_the_cosine_begins_with_a_restart_where_there_is_a_period_for_it() -> None:
    """The ancestor's `restarts` were [0] by default, and its recipes give two periods or more."""
    found = scheme("CosineAnnealingLR_Restart", T_period=[40, 10])
    assert [found.lr(1, iteration) for iteration in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_the_cosine_swings_up_to_the_initial_rate_beyond_its_period() -> None:
    found = scheme("CosineAnnealingLR_Restart", T_period=[10, 10], restarts=[10], restart_weights=[0.5])
    assert [found.lr(1, iteration) for iteration in (15, 20, 25, 30)] == pytest.approx([0.25, 0, 0.5, 1])


def test_the_cosine_holds_the_initial_rate_also_where_it_begins_lower() -> None:
    options = {"T_period": [10, 10], "warmup": 3, "restarts": [0], "restart_weights": [0.5]}
    found = scheme("CosineAnnealingLR_Restart", **options)
    assert [found.lr(1, iteration) for iteration in (0, 2, 3, 8)] == pytest.approx([1, 1, 0.5, 0.25])


def test_the_cosine_holds_first() -> None:
    found = scheme("CosineAnnealingLR_Restart", T_period=[10], warmup=5)
    assert [found.lr(1, iteration) for iteration in (0, 5, 10, 15)] == pytest.approx([1, 1, 0.5, 0])


OPTIONS: dict[str, dict[str, Any]] = {
    "ConstantLR": {"factor": 0.5, "total_iters": 4},
    "CosineAnnealingLR": {"T_max": 10, "eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 5, "T_mult": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "mode": "triangular2"},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"start_factor": 0.25, "total_iters": 8},
    "MultiStepLR": {"milestones": [3, 7], "gamma": 0.3},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 30, "anneal_strategy": "linear"},
    "PolynomialLR": {"total_iters": 10, "power": 2.0},
    "StepLR": {"step_size": 4, "gamma": 0.5},
}


def stepped_by_hand(name: str, initial: float, iterations: int) -> list[float]:
    optimizer = SGD([torch.zeros(1)], lr=initial)
    kept = {"cycle_momentum": False} if name in ("CyclicLR", "OneCycleLR") else {}
    schedule = getattr(lr_scheduler, name)(optimizer, **OPTIONS[name], **kept)
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", OPTIONS)
def test_every_scheduler_of_torch_is_what_stepping_it_by_hand_is(name: str) -> None:
    options = ", ".join(f"{option}: {value}" for option, value in OPTIONS[name].items())
    found = scheme(f"{{type: {name}, {options}}}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates = [found.lr(0.1, iteration) for iteration in range(25)]
    assert rates == pytest.approx(stepped_by_hand(name, 0.1, 25))
    asked = [20, 3, 3, 11, 0]
    assert [found.lr(0.1, iteration) for iteration in asked] == pytest.approx([rates[at] for at in asked])
    assert [found.lr(0.2, iteration) for iteration in range(5)] == pytest.approx(stepped_by_hand(name, 0.2, 5))


def test_no_scheme_of_these_is_missing_and_none_that_takes_functions_or_metrics_is_there() -> None:
    assert {*OPTIONS, "CosineAnnealingLR_Restart"} <= set(lr_schemes.classes)
    assert not {"LambdaLR", "SequentialLR", "ReduceLROnPlateau", "LRScheduler"} & set(lr_schemes.classes)


def test_one_rate_does_not_disturb_another() -> None:
    found = scheme("{type: StepLR, step_size: 2, gamma: 0.5}")
    assert [found.lr(rate, iteration) for iteration in range(4) for rate in (1, 8)] == [1, 8, 1, 8, 0.5, 4, 0.5, 4]


def test_a_word_alone_chooses_a_scheduler_that_needs_no_options() -> None:
    assert scheme("LinearLR").lr(0.3, 0) == pytest.approx(0.1)


@pytest.mark.parametrize("text", ["", "~"])
def test_nothing_keeps_the_rates(text: str) -> None:
    node, _ = parse(f"a: {text}", "x.yml")
    assert node is not None
    assert bind_lr_scheme(node.fields["a"], Train(niter=1), []) is None
    assert bind_lr_scheme(None, Train(niter=1), []) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("StepLr", "no learning rate scheme is called 'StepLr'; did you mean 'StepLR'?"),
        ("LambdaLR", "no learning rate scheme is called 'LambdaLR'; "),
        ("3", "expected the name of a learning rate scheme, got int 3"),
        ("{type: StepLR}", "option 'step_size' is missing; it takes a whole number"),
        ("{type: StepLR, step_size: 0}", "torch refuses this: integer modulo by zero"),
        ("{type: MultiStepLR, milestones: often}", "expected a list, each item a whole number, got str 'often'"),
        ("{type: CosineAnnealingLR_Restart, periods: [3]}", "its options stand in 'train' itself; write only the name"),
        ("{type: OneCycleLR, max_lr: 1, total_steps: 50}", "it ends after 50 iterations, train.niter is 100"),
        ("{type: OneCycleLR, max_lr: 1, epochs: 5, steps_per_epoch: 9}", "it ends after 45 iterations, train.niter is"),
    ],
)
def test_a_scheme_that_cannot_be_is_a_fault(text: str, message: str) -> None:
    node, _ = parse(f"a: {text}", "x.yml")
    assert node is not None
    faults: list[Fault] = []
    assert bind_lr_scheme(node.fields["a"], Train(niter=100), faults) is None
    (fault,) = faults
    assert fault.message.startswith(message)
