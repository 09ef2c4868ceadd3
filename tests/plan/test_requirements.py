"""Steps that ask for keys, and steps that keep keys to themselves."""

import pytest

import gradloom
from making import GAN, gan_batch, plan_of, trainer_of

LATER = GAN.replace("training: generator\n", "training: generator\n        requires: [REQUIRED, hq]\n")
DATA = "datasets.train={mode: test_pairs, batch_size: 4}"


def faults(text: str, *changes: str) -> list[str]:
    with pytest.raises(gradloom.OptionsError) as refused:
        plan_of(text, *changes)
    return [str(fault).partition(": ")[2] for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6]),
        (["steps.discriminator_step.injectors.fake.every=2", "steps.discriminator_step.every=2"], [0, 2, 4, 6]),
        (["steps.discriminator_step.after=2"], [2, 3, 4, 5, 6]),
        (["steps.discriminator_step.every=2", "steps.generator_step.every=3"], [0, 3, 6]),
        (["steps.discriminator_step.optimizer_params.after=4"], [0, 1, 2, 3, 4, 5, 6]),
        (["steps.discriminator_step.before=4", "steps.discriminator_step.every=2"], [0, 1, 2, 3, 4]),
    ],
)
def test_a_step_runs_where_what_it_requires_is_written(changes: list[str], runs: list[int]) -> None:
    run, found = trainer_of(LATER.replace("REQUIRED", "fake"), *changes), []
    for iteration in range(7):
        metrics = run.train_step(gan_batch())
        found += [iteration] if "generator_step/total" in metrics else []
    assert found == runs


def test_what_nothing_writes_is_refused_if_batches_are_known() -> None:
    assert faults(LATER.replace("REQUIRED", "fakes"), DATA) == [
        "steps.generator_step.requires[0]: nothing before it writes 'fakes', so it would never run; did you mean 'fake'?"
    ]
    assert faults(LATER.replace("REQUIRED", "drawn")) == [
        "steps.generator_step.requires[0]: nothing before it writes 'drawn', so it would never run; known: fake"
    ]
    plan_of(LATER.replace("REQUIRED", "mask"))  # which may come with the batch


KEEPING = GAN.replace("training: discriminator\n", "training: discriminator\n        step_outputs: OUTPUTS\n")
READING = ["steps.generator_step.losses.pix.fake=fake", "steps.generator_step.losses.pix.real=hq"]


def test_a_step_may_keep_what_it_writes() -> None:
    plan_of(KEEPING.replace("OUTPUTS", "[]"))
    plan_of(KEEPING.replace("OUTPUTS", "fake"), *READING)
    assert faults(KEEPING.replace("OUTPUTS", "[]"), *READING) == [
        "steps.generator_step.losses.pix.fake: reads 'fake', which steps.discriminator_step keeps; add it to its 'step_outputs'"
    ]
    assert faults(KEEPING.replace("OUTPUTS", "[fakes]")) == [
        "steps.discriminator_step.step_outputs[0]: the step does not write 'fakes'; did you mean 'fake'?"
    ]
    kept = KEEPING.replace("OUTPUTS", "[]").replace(
        "training: generator\n", "training: generator\n        requires: fake\n"
    )
    assert "nothing before it writes 'fake', so it would never run" in faults(kept)[0]
