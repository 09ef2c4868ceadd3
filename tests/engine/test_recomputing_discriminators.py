"""Discriminators whose names show no rows are computed anew all the same, as the ancestor's `do_checkpointing` asks."""

import copy
from typing import Any

import pytest
import torch
from test_recomputing import remembered
from torch import Tensor

from making import trainer_of

GAN = """
    name: judged
    networks:
      generator: {which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 4, nb: 1, gc: 2, scale: 2}
      discriminator: {which_model: MODEL, in_nc: 3, nf: 8, image_size: 32CHECKPOINTING}
    steps:
      discriminator_step:
        training: discriminator
        optimizer_params: {lr: 1e-3}
        injectors:
          fake: {type: generator, generator: generator, in: lq, out: fake, grad: false}
        losses:
          gan: {type: discriminator_gan, gan_type: gan, real: hq, fake: fakePENALTY}
    train: {niter: 10, ema_rate: 0.9}
"""


def trainer(model: str, checkpointing: bool, penalty: bool) -> Any:
    text = GAN.replace("MODEL", model).replace("CHECKPOINTING", ", do_checkpointing: true" if checkpointing else "")
    return trainer_of(text.replace("PENALTY", ", gradient_penalty: true" if penalty else ""))


def batch(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "hq": torch.rand(3, 3, 32, 32, generator=generator), "lq": torch.rand(3, 3, 16, 16, generator=generator)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "penalty"), [("discriminator_vgg_128", False), ("discriminator_vgg_128_gn", True)]
)  # fmt: skip
def test_training_is_the_same_to_the_bit_and_remembers_less(model: str, penalty: bool) -> None:
    plain, anew = (trainer(model, checkpointing, penalty) for checkpointing in (False, True))
    assert "discriminator: 5 blocks to compute anew in backward passes" in anew.origins
    assert remembered(anew.networks["discriminator"], batch(9)["hq"]) < 0.4 * remembered(
        plain.networks["discriminator"], batch(9)["hq"]
    )
    anew.networks["discriminator"].load_state_dict(plain.networks["discriminator"].state_dict())
    for iteration in range(3):
        ours, theirs = anew.train_step(batch(iteration)), plain.train_step(batch(iteration))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for ours, theirs in ((anew.networks, plain.networks), (anew.emas, plain.emas)):
        expected = theirs["discriminator"].state_dict()
        for name, value in ours["discriminator"].state_dict().items():
            assert torch.equal(value, expected[name]), name


def test_a_copy_computes_with_its_own_weights() -> None:
    network = trainer("discriminator_vgg_128", True, False).networks["discriminator"]
    twin = copy.deepcopy(network)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    assert (network(batch(0)["hq"]) == 0).all() and (twin(batch(0)["hq"]) != 0).all()
    assert not [name for name in network.state_dict() if "pairs" in name]
