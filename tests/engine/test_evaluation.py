"""Measuring looks at the networks it is told to, with the same noise each time, and leaves the run as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import gradloom
from gradloom import Evaluator, Read
from making import plan_of

SEEN: list[tuple[Tensor, bool]] = []


@gradloom.networks.register("test_mode_teller")
class ModeTeller(nn.Module):
    """Adds a learned number, and says in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(2))
        self.frozen_norm = nn.BatchNorm1d(2).eval()

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :2] + self.number + float(self.training)


@gradloom.datasets.register("test_five")
class Five(Dataset[dict[str, Tensor]]):
    """Five samples."""

    keys = ("hq", "z")

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"hq": torch.full((2,), float(index)), "z": torch.zeros(4)}


class Recorder(Evaluator, type="test_recorder"):
    """Keeps what it is shown."""

    value: Read

    def reset(self) -> None:
        self.shown: list[Tensor] = []

    def forward(self, value: Tensor) -> None:
        self.shown.append(value.clone())

    def compute(self) -> dict[str, float]:
        SEEN.append((torch.cat(self.shown), self.training))
        return {"test_recorder": float(torch.cat(self.shown).mean())}


OPTIONS = """
    name: measured
    datasets:
      train: {mode: test_five, batch_size: 2}
      val: {mode: test_five, batch_size: 2}
    networks:
      generator: {which_model: test_mode_teller}
    steps:
      step:
        training: generator
        optimizer: sgd
        optimizer_params: {lr: 1.0}
        injectors:
          noisy: {type: add_noise, in: z, out: noisy}
          made: {type: generator, generator: generator, in: noisy, out: made}
        losses:
          near: {type: direct, key: made}
    eval:
      evaluators:
        seen: {type: test_recorder, value: made, %s}
    train: {niter: 4, val_freq: 2, ema_rate: 0.5}
    logger: {print_freq: 4}
"""


def _run(tmp_path: Path, option: str, *overrides: str) -> tuple[gradloom.Trainer, list[Tensor]]:
    SEEN.clear()
    plan = plan_of(OPTIONS % option, f"path.experiments_root={tmp_path}", "use_tb_logger=false", *overrides)
    trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
    trainer.fit()
    return trainer, [shown for shown, _ in SEEN]


def test_the_average_stands_in_for_the_network(tmp_path: Path) -> None:
    """The loss is the mean, so each of four updates takes a half from the number."""
    _, (_, live) = _run(tmp_path, "samples: 5")
    _, (_, average) = _run(tmp_path, "for: generator.ema")
    followed = torch.zeros(())
    for number in (-0.5, -1.0, -1.5, -2.0):
        followed = 0.5 * followed + 0.5 * number
    torch.testing.assert_close(average - live, torch.full((5, 2), float(followed) + 2.0))


def test_the_noise_is_the_same_each_time_and_the_runs_own_is_not_touched(tmp_path: Path) -> None:
    trainer, (first, second) = _run(tmp_path, "samples: 7")
    assert first.shape == (7, 2)
    torch.testing.assert_close(second - first, torch.full((7, 2), -1.0))
    after = torch.get_rng_state()
    _run(tmp_path, "samples: 7", "eval=null")
    assert torch.equal(after, torch.get_rng_state())
    assert trainer.iteration == 4


def test_networks_are_in_eval_mode_while_they_are_measured_and_then_as_they_were(tmp_path: Path) -> None:
    trainer, (_, shown) = _run(tmp_path, "samples: 5", "steps.step.injectors.noisy.scale=0")
    torch.testing.assert_close(shown, torch.full((5, 2), -2.0))
    network: Any = trainer.networks["generator"]
    assert network.training
    assert not network.frozen_norm.training


def test_injectors_under_eval_take_the_place_of_the_steps(tmp_path: Path) -> None:
    trainer, (shown, _) = _run(tmp_path, "samples: 5", "eval.injectors={other: {type: direct, in: hq, out: made}}")
    assert [call.name for call in trainer.plan.measures[0].injectors] == ["other"]
    assert shown[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_what_only_trains_is_not_measured() -> None:
    with pytest.raises(gradloom.OptionsError, match="remove its 'train: true'"):
        plan_of(OPTIONS % "samples: 5", "steps.step.injectors.made.train=true")
