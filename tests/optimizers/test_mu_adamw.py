"""How the library mup is used, with one in its place that has the same function, since it need not be installed."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn, optim

from gradloom.parts import optimizers
from making import GAN, gan_batch, trainer_of

GENERATOR = "steps.generator_step"


def _mu_adamw(params: list[dict[str, Any]], **options: Any) -> optim.Optimizer:
    """Groups of one parameter each; of matrices the rate is divided by how much wider they are."""
    groups = []
    for group in params:
        for parameter in group["params"]:
            if "widened" not in vars(parameter):
                raise AssertionError("a parameter has no shape to compare with")
            share = 1 / vars(parameter)["widened"] if parameter.dim() == 2 else 1.0
            groups.append({**group, "params": [parameter], "lr": group["lr"] * share})
    return optim.AdamW(groups, **options)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    stand_in = ModuleType("mup")
    vars(stand_in)["MuAdamW"] = _mu_adamw
    monkeypatch.setitem(sys.modules, "mup", stand_in)
    monkeypatch.setattr(optimizers, "unavailable", {})
    yield
    optimizers.classes.pop("mu_adamw", None)
    sys.modules.pop("gradloom.optimizers.mu_adamw", None)


class Widened(nn.Sequential):
    def __init__(self, known: bool = True) -> None:
        super().__init__(nn.Linear(4, 8), nn.Linear(8, 2))
        for parameter in self.parameters() if known else ():
            vars(parameter)["widened"] = 4


def _trainer(*changes: str) -> Any:
    import gradloom

    gradloom.networks.register("test_widened")(Widened)
    network = "networks.generator={which_model: test_widened}"
    return trainer_of(GAN, network, f"{GENERATOR}.optimizer=mu_adamw", *changes)


@pytest.mark.usefixtures("library")
def test_matrices_have_lower_rates_and_schedules_keep_them_so() -> None:
    trainer = _trainer("train.default_lr_scheme={type: StepLR, step_size: 1, gamma: 0.5}")
    rates = lambda: [group["lr"] for group in trainer.optimizers["generator_step"].param_groups]  # noqa: E731
    assert rates() == [0.0025, 0.01, 0.0025, 0.01]
    for _ in range(2):
        trainer.train_step(gan_batch())
    assert rates() == [0.00125, 0.005, 0.00125, 0.005]


@pytest.mark.usefixtures("library")
def test_a_group_has_its_own_rate() -> None:
    trainer = _trainer(f"{GENERATOR}.optimizer_params={{lr: 0.01, param_groups: {{last: {{lr: 0.1, names: 1.*}}}}}}")
    found = {group["params"][0].shape: group["lr"] for group in trainer.optimizers["generator_step"].param_groups}
    assert found[torch.Size([8, 4])] == 0.0025
    assert found[torch.Size([2, 8])] == 0.025


@pytest.mark.usefixtures("library")
def test_a_network_that_tells_no_width_is_named() -> None:
    import gradloom

    with pytest.raises(gradloom.RunError, match="mup does not know how wide a network is: a parameter has no shape"):
        _trainer("networks.generator.known=false")
