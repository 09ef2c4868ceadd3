"""What is gathered by itself of a network that is spread, and what cannot be done with one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gradloom
from gradloom.engine import sharding
from gradloom.engine.preflight.look import look_ahead
from gradloom.engine.sharding import large_blocks
from gradloom.errors import RunError
from gradloom.networks.RRDBNet import RRDBNet
from making import GAN, IMAGE_GAN, gan_batch, plan_of, trainer_of, weights


class Slope(gradloom.Loss, type="test_slope"):
    """The mean square of a network's gradient."""

    network: gradloom.Net
    real: gradloom.Read

    def forward(self, network: nn.Module, real: Tensor) -> Tensor:
        real = real.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(network(real).sum(), real, create_graph=True)
        return gradient.square().sum(1).mean()


SPREAD = "networks.discriminator.strategy=fsdp"
SLOPE = "steps.discriminator_step.losses.slope={type: test_slope, network: discriminator, real: hq}"


def test_the_large_blocks_of_a_network_are_gathered_one_by_one() -> None:
    with torch.device("meta"):
        network = RRDBNet(in_nc=3, out_nc=3, nf=64, nb=23, scale=4)
    blocks = list(large_blocks(network))
    assert len(blocks) == 23
    assert {type(block).__name__ for block in blocks} == {"ResidualInResidual"}


def test_inner_blocks_come_first_and_do_not_count_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "LARGE", 12)
    inner = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))  # 12 and 4 numbers
    outer = nn.Sequential(inner, nn.Linear(1, 1))
    assert list(large_blocks(nn.Sequential(outer))) == [inner[0]]
    monkeypatch.setattr(sharding, "LARGE", 4)
    assert list(large_blocks(nn.Sequential(outer))) == [inner[1], inner[0]]
    monkeypatch.setattr(sharding, "LARGE", 2)
    assert list(large_blocks(nn.Sequential(outer))) == [outer[1], inner[1], inner[0]]


def test_blocks_that_share_a_parameter_are_gathered_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "LARGE", 1)
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    network[2].weight = network[0].weight
    assert list(large_blocks(network)) == [network[1]]
    assert list(large_blocks(network, {*network[1].parameters()})) == []


def test_one_process_holds_everything_and_says_so() -> None:
    spread, whole = trainer_of(GAN, "networks.generator.strategy=fsdp"), trainer_of(GAN)
    assert spread.origins == ["generator: not spread, since there is one process"]
    assert not spread.shards
    for trainer in (spread, whole):
        trainer.train_step(gan_batch())
    for key, value in weights(whole.networks["generator"]).items():
        assert torch.equal(value, spread.networks["generator"].state_dict()[key])


def test_a_gradient_of_a_gradient_is_found_before_the_run(tmp_path: Path) -> None:
    data = "datasets: {train: {mode: random_dataset, hq_shape: [1, 8, 8], batch_size: 4}}"
    text = f"name: gan\n{data}\ntrain: {{niter: 1}}\npath: {{experiments_root: {tmp_path}}}\n{IMAGE_GAN}"
    assert look_ahead(plan_of(text, SLOPE), torch.device("cpu")).faults == []
    assert look_ahead(plan_of(text, SPREAD), torch.device("cpu")).faults == []
    (fault,) = look_ahead(plan_of(text, SPREAD, SLOPE), torch.device("cpu")).faults
    assert fault.path == "networks.discriminator.strategy"
    assert "differentiated again, which FSDP cannot do; write 'replicate'" in fault.message


def test_a_gradient_of_a_gradient_is_refused_while_training() -> None:
    trainer = trainer_of(GAN, SPREAD, SLOPE)
    spread = trainer.plan.networks["discriminator"].spread
    assert spread is not None
    sharding.refuse_second_gradients(trainer.networks["discriminator"], spread.fault)
    with pytest.raises(RunError, match=r"networks\.discriminator\.strategy: .* differentiated again.*'replicate'"):
        trainer.train_step(gan_batch())
