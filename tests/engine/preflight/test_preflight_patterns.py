"""Every combination of open gates that training meets is looked at once."""

from itertools import product

import pytest

from gradloom.engine.preflight.patterns import iterations
from making import GAN, plan_of

PIX = "weight: 0.1}"
STEP = "training: discriminator\n"


def patterns(plan_text: str, *overrides: str) -> tuple[list[int], set[tuple[bool, ...]], set[tuple[bool, ...]]]:
    """The iterations chosen, the patterns they show, and those of all iterations."""
    plan = plan_of(plan_text, *overrides)
    gates = [call.gate for step in plan.steps for call in (*step.injectors, *step.losses)]
    gates += [step.gate for step in plan.steps] + [network.gate for network in plan.networks.values()]

    def pattern(iteration: int) -> tuple[bool, ...]:
        return tuple(gate.open(iteration) for gate in gates)

    first, last = plan.sections.start_step + 1, plan.sections.train.niter
    chosen = iterations(plan, first)
    assert all(first <= iteration < last for iteration in chosen)
    return chosen, {*map(pattern, chosen)}, {*map(pattern, range(first, last))}


def gated(pix: str, step: str) -> str:
    return GAN.replace(PIX, f"weight: 0.1, {pix}}}").replace(STEP, f"{STEP}        {step}\n")


def test_without_gates_there_is_one() -> None:
    assert patterns(GAN)[0] == [0]
    assert patterns(GAN, "start_step=9")[0] == [10]
    assert patterns(GAN, "train.niter=0")[0] == []


@pytest.mark.parametrize(
    ("pix", "step"),
    [*product(["every: 2", "after: 11, before: 60, every: 5"], ["every: 3", "after: 40", "before: 90"])],
)
@pytest.mark.parametrize("niter", [7, 100, 20_000])
def test_each_is_met_once(pix: str, step: str, niter: int) -> None:
    chosen, seen, there = patterns(gated(pix, step), f"train.niter={niter}")
    assert seen == there
    assert len(chosen) == len(there)


def test_rhythms_that_meet_late_are_seen_together() -> None:
    chosen, seen, there = patterns(gated("every: 97", "every: 101"), f"train.niter={2 * 97 * 101}")
    assert seen == there
    assert len(chosen) == len(there) == 4
