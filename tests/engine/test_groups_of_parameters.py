"""Parameters with rates of their own, and those that networks mark as not to be trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradloom
from making import GAN, gan_batch, trainer_of, weights

STEP = "steps.generator_step"
OPTIMIZERS = ["adamw", "adam", "sgd", "lars", "lamb", "adamw_zero", "rmsprop"]


@gradloom.networks.register("test_marked")
class Marked(nn.Module):
    """Three layers, of which the network marks some."""

    def __init__(self, never: bool = False, until: int = 0) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        for parameter in self.second.parameters():
            vars(parameter)["PARAM_GROUP"] = "middle"
        for parameter in self.first.parameters():
            vars(parameter).update(DO_NOT_TRAIN=never, DO_NOT_TRAIN_UNTIL=until)

    def forward(self, z: Tensor) -> Tensor:
        return self.third(self.second(self.first(z).tanh()).tanh())


def trainer(*changes: str) -> gradloom.Trainer:
    return trainer_of(GAN, "networks.generator={which_model: test_marked}", *changes)


def moved(run: gradloom.Trainer, before: dict[str, Tensor]) -> dict[str, bool]:
    return {name: not torch.equal(before[name], value) for name, value in weights(run.networks["generator"]).items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_each_group_has_its_rate_whatever_the_optimizer(name: str, decay: float) -> None:
    """A rate of 0 keeps what belongs to the group as it is, and nothing else."""
    groups = "{middle: {lr: 0}, last: {lr: 0, names: [third.w*]}}"
    params = f"{STEP}.optimizer_params={{lr: 0.01, weight_decay: {decay}, param_groups: {groups}}}"
    run = trainer(f"{STEP}.optimizer={name}", params)
    before = weights(run.networks["generator"])
    run.train_step(gan_batch())
    still = {"second.weight", "second.bias", "third.weight"}
    assert moved(run, before) == {key: key not in still for key in before}


def test_groups_follow_schedules_and_warm_up_of_their_own() -> None:
    groups = "{middle: {lr: {linear: {from: 1, to: 0, end: 4}}}, last: {lr: 0.5, names: third.*}}"
    run = trainer(
        f"{STEP}.optimizer_params={{lr: 0.01, param_groups: {groups}}}",
        "train.default_lr_scheme={type: StepLR, step_size: 2, gamma: 0.1}",
    )
    rates = []
    for _ in range(5):
        run.train_step(gan_batch())
        rates.append([run.rates.now()[f"lr/generator_step{group}"] for group in ("", "/middle", "/last")])
    expected = [[0.01, 1, 0.5], [0.01, 0.75, 0.5], [1e-3, 0.5, 0.05], [1e-3, 0.25, 0.05], [1e-4, 0, 5e-3]]
    assert rates == [pytest.approx(row) for row in expected]


def test_each_group_has_its_start_of_a_progressive_scheme() -> None:
    groups = "{middle: {lr: 0.5}}"
    changes = [
        f"{STEP}.optimizer_params={{lr: 0.01, param_groups: {groups}}}",
        "train.default_lr_scheme=ProgressiveMultiStepLR", "train.gen_lr_steps=[1, 2]", "train.lr_gamma=0.1",
    ]  # fmt: skip
    run = trainer(*changes, "train.progressive_starts=[0, 2]")
    rates = []
    for _ in range(5):
        run.train_step(gan_batch())
        rates.append([run.rates.now()[f"lr/generator_step{group}"] for group in ("", "/middle")])
    expected = [[1e-2, 0.5], [1e-3, 0.5], [1e-4, 0.5], [1e-4, 0.05], [1e-4, 5e-3]]
    assert rates == [pytest.approx(row) for row in expected]
    with pytest.raises(gradloom.OptionsError, match=r"generator_step needs 2 'progressive_starts', one for what"):
        trainer(*changes)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("other: {lr: 1}", r"param_groups\.other: no parameter that is trained belongs to it; give it 'names'"),
        (
            "other: {lr: 1, names: fourth.*}",
            r"param_groups\.other: no parameter .* belongs to it; its names match none",
        ),
    ],
)
def test_a_group_of_nothing_is_refused(group: str, message: str) -> None:
    with pytest.raises(gradloom.RunError, match=message):
        trainer(f"{STEP}.optimizer_params={{lr: 1, param_groups: {{{group}}}}}")


@pytest.mark.parametrize("name", ["adam", "sgd", "lamb"])
def test_what_a_network_marks_is_never_trained(name: str) -> None:
    run = trainer(
        "networks.generator.never=true",
        f"{STEP}.optimizer={name}",
        f"{STEP}.optimizer_params={{lr: 0.1, weight_decay: 0.1}}",
    )
    before = weights(run.networks["generator"])
    for _ in range(3):
        run.train_step(gan_batch())
    assert moved(run, before) == {key: not key.startswith("first") for key in before}


@pytest.mark.parametrize("name", ["adam", "lamb", "lars"])
def test_or_not_before_an_iteration(name: str, tmp_path: Path) -> None:
    changes = ["networks.generator.until=3", f"{STEP}.optimizer={name}"]
    run, first = trainer(*changes), []
    for iteration in range(6):
        before = weights(run.networks["generator"])
        run.train_step(gan_batch(seed=iteration))
        now = moved(run, before)
        first.append(now["first.weight"])
        assert now["third.weight"]
        if iteration == 1:
            run.save(tmp_path)
    assert first == [False, False, False, True, True, True]
    again = trainer(*changes)
    again.resume(tmp_path / "2")
    for iteration in range(2, 6):
        again.train_step(gan_batch(seed=iteration))
    ends = [weights(one.networks["generator"]) for one in (run, again)]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_is_the_run(name: str, tmp_path: Path) -> None:
    changes = [
        f"{STEP}.optimizer={name}",
        f"{STEP}.optimizer_params={{lr: 0.01, param_groups: {{middle: {{lr: 0.1}}}}}}",
    ]
    run = trainer(*changes)
    for iteration in range(6):
        run.train_step(gan_batch(seed=iteration))
        if iteration == 2:
            run.save(tmp_path)
    again = trainer(*changes)
    again.resume(tmp_path / "3")
    for iteration in range(3, 6):
        again.train_step(gan_batch(seed=iteration))
    ends: list[dict[str, Any]] = [weights(one.networks["generator"]) for one in (run, again)]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
