"""Learning rates and scheduled options, iteration by iteration."""

import math

import pytest
from torch.utils.data import Dataset

import gradloom
from making import GAN, gan_batch, trainer_of


@gradloom.datasets.register("test_eight")
class Eight(Dataset[None]):
    """Eight samples that nobody looks at."""

    keys = ("hq", "z")

    def __len__(self) -> int:
        return 8


def _rates(count: int, *overrides: str) -> list[float]:
    trainer = trainer_of(GAN, *overrides)
    rates = []
    for _ in range(count):
        trainer.train_step(gan_batch())
        rates.append(trainer.optimizers["generator_step"].param_groups[0]["lr"])
    return rates


def test_a_milestone_takes_effect_at_its_iteration() -> None:
    rates = _rates(6, "train.default_lr_scheme=MultiStepLR", "train.gen_lr_steps=[2, 4]", "train.lr_gamma=0.5")
    assert rates == [1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3, 2.5e-3]


def test_warm_up_is_a_line_and_then_the_scheme() -> None:
    rates = _rates(
        6, "train.warmup_iter=4", "train.default_lr_scheme=MultiStepLR", "train.gen_lr_steps=[5]", "train.lr_gamma=0.5"
    )
    assert rates == pytest.approx([0, 2.5e-3, 5e-3, 7.5e-3, 1e-2, 5e-3])


def test_a_rate_may_be_a_schedule() -> None:
    rates = _rates(5, "steps.generator_step.optimizer_params={lr: {linear: {from: 0.1, to: 0, end: 4}}}")
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025, 0])


def test_torchs_schemes_by_name() -> None:
    rates = _rates(5, "train.default_lr_scheme={type: CosineAnnealingLR, T_max: 4}")
    assert rates == pytest.approx([5e-3 * (1 + math.cos(math.pi * n / 4)) for n in range(5)])


def test_an_epoch_is_counted_in_iterations() -> None:
    trainer = trainer_of(
        GAN,
        "datasets={train: {mode: test_eight, batch_size: 4}}",
        "steps.generator_step.losses.pix.weight={linear: {from: 0, to: 1, end: 2, unit: epoch}}",
    )
    part = next(call.part for call in trainer.calls if call.path == "steps.generator_step.losses.pix")
    seen = []
    for _ in range(5):
        trainer.train_step(gan_batch())
        seen.append(part.weight)
    assert seen == [0, 0.25, 0.5, 0.75, 1]


def test_two_trainers_of_one_plan_do_not_share_parts() -> None:
    trainer = trainer_of(GAN, "steps.generator_step.losses.pix.weight={linear: {from: 0, to: 1, end: 10}}")
    other = gradloom.ExtensibleTrainer(trainer.plan, device="cpu")
    trainer.train_step(gan_batch())
    assert all(first is not second for first, second in zip(trainer.calls, other.calls, strict=True))


def test_a_port_that_takes_a_schedule_gets_the_iterations_value() -> None:
    noisy = "        injectors:\n          noisy: {type: add_noise, in: z, out: noisy, scale: {stepped: {points: [[0, 0], [1, 1]]}}}\n"
    text = GAN.replace("        injectors:\n", noisy, 1).replace("in: z, out: fake", "in: noisy, out: fake")
    trainer = trainer_of(text)
    same = []
    for _ in range(2):
        batch = gan_batch()
        trainer.train_step(batch, keep=["noisy"])
        same.append(bool((trainer.states[0].state["noisy"] == batch["z"]).all()))
    assert same == [True, False]
