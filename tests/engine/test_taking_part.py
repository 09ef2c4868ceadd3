"""What networks do besides being called, and when."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradloom
from making import GAN, gan_batch, trainer_of


@gradloom.networks.register("test_taking_part")
class Witness(nn.Sequential):
    """Notes what happens to it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))
        self.seen: list[Any] = []
        self.register_buffer("updates", torch.zeros(()))

    def update_for_step(self, iteration: int) -> None:
        self.seen.append(("iteration", iteration, torch.is_grad_enabled()))
        self.updates += 1

    def after_backward(self, iteration: int) -> None:
        self.seen.append(("backward", iteration, self[0].weight.grad.clone()))

    def before_step(self, iteration: int) -> None:
        self.seen.append(("before", iteration, self[0].weight.detach().clone(), self[0].weight.grad.clone()))
        self[0].bias.grad.zero_()

    def after_step(self, iteration: int) -> None:
        self.seen.append(("after", iteration, self[0].weight.detach().clone()))

    def get_debug_values(self, iteration: int) -> Mapping[str, float | Tensor]:
        return {"updates": self.updates, "seven": 7}

    def get_grad_norm_parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"first": self[0].parameters(), "last": [self[2].weight, self[2].bias]}

    def visual_dbg(self, iteration: int, folder: Path) -> None:
        (folder / f"{iteration}.txt").write_text("drawn")

    def network_loaded(self) -> None:
        self.seen.append(("loaded",))


WITNESS = "networks.generator.which_model=test_taking_part"


def test_a_network_acts_at_its_moments() -> None:
    run = trainer_of(GAN, WITNESS, "train.mega_batch_factor=2", "steps.generator_step.clip_grad_norm=1e-4")
    network = run.networks["generator"]
    run.train_step(gan_batch())
    run.train_step(gan_batch(seed=1))
    moments = ["iteration", "backward", "backward", "before", "after"]
    assert [(what[0], *what[1:2]) for what in network.seen] == [
        ("loaded",), *((moment, 0) for moment in moments), *((moment, 1) for moment in moments)
    ]  # fmt: skip
    _, began, half, whole, before, after = network.seen[:6]
    assert began[2] is False
    torch.testing.assert_close(before[3], whole[2])  # the second half is added to the first, and nothing is clipped yet
    assert not torch.equal(half[2], whole[2])
    assert not torch.equal(before[2], after[2])
    assert torch.equal(network[0].bias, trainer_of(GAN, WITNESS).networks["generator"][0].bias)
    assert float(network.updates) == 2


def test_an_update_that_is_skipped_is_none() -> None:
    run = trainer_of(GAN, WITNESS)
    batch = gan_batch()
    batch["hq"][0] = torch.nan
    run.train_step(batch)
    assert [what[0] for what in run.networks["generator"].seen] == ["loaded", "iteration", "backward", "before"]


def test_norms_of_groups_are_those_of_gradients_and_told_when_numbers_are_logged() -> None:
    run = trainer_of(GAN, WITNESS, "logger.print_freq=3", "train.niter=5")
    told = []
    for iteration in range(5):
        metrics = run.train_step(gan_batch(seed=iteration))
        told.append(
            {name.removeprefix("generator_step/"): value for name, value in metrics.items() if "grad_norm" in name}
        )
        if told[-1]:
            gradient = run.networks["generator"].seen[-2][3]
            assert float(told[-1]["grad_norm/generator/first"]) == pytest.approx(float(gradient.norm()))
    names = {"grad_norm/generator/first", "grad_norm/generator/last"}
    assert [set(one) for one in told] == [set(), set(), names, set(), names]


def test_a_run_logs_and_draws_what_networks_tell(tmp_path: Path) -> None:
    text = GAN.replace("generator: {which_model: test_mlp", "generator: {which_model: test_taking_part")
    run = trainer_of(
        text,
        "datasets.train={mode: test_pairs, batch_size: 4}", "train.niter=5", "logger.print_freq=2", "use_tb_logger=false",
        "logger.visual_debug_rate=3", f"path.experiments_root={tmp_path}",
    )  # fmt: skip
    run.fit()
    rows = [json.loads(row) for row in (tmp_path / "gan" / "metrics.jsonl").read_text().splitlines()]
    assert [row["debug/generator/updates"] for row in rows] == [2, 4, 5]
    assert {row["debug/generator/seven"] for row in rows} == {7}
    assert all("generator_step/grad_norm/generator/first" in row for row in rows)
    drawn = sorted(file.name for file in (tmp_path / "gan" / "images" / "networks" / "generator").iterdir())
    assert drawn == ["1.txt", "3.txt", "5.txt"]


def test_weights_that_come_from_a_checkpoint_are_heard_of(tmp_path: Path) -> None:
    run = trainer_of(GAN, WITNESS)
    run.train_step(gan_batch())
    again = trainer_of(GAN, WITNESS)
    again.resume(run.save(tmp_path))
    assert again.networks["generator"].seen == [("loaded",), ("loaded",)]
    assert float(again.networks["generator"].updates) == 1


@gradloom.networks.register("test_taking_part_as_before")
class AsBefore(nn.Linear):
    """As the ancestor would call it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def update_for_step(self, iteration: int, folder: str) -> None:
        raise TypeError


def test_a_method_that_takes_something_else_is_named() -> None:
    with pytest.raises(gradloom.RunError, match=r"networks\.generator: its method 'update_for_step' is given iteration, "
                       "but: missing a required argument: 'folder'"):  # fmt: skip
        trainer_of(GAN, "networks.generator.which_model=test_taking_part_as_before")
