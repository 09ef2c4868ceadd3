"""The trainer does in float64 what a loop written by hand does."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from making import trainer_of

DCGAN = """
    name: dcgan
    networks:
      generator: {which_model: dcgan_generator, image_size: 16, latent_dim: 8, channels: 1, nf: 4}
      discriminator: {which_model: dcgan_discriminator, image_size: 16, channels: 1, nf: 4}
    steps:
      generator_step:
        training: generator
        optimizer: adam
        optimizer_params: {lr: 2e-4, betas: [0.5, 0.999]}
        injectors:
          drawn: {type: generator, generator: generator, in: z, out: fake}
        losses:
          fool: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: fake, weight: 0.7}
      discriminator_step:
        training: discriminator
        optimizer: adam
        optimizer_params: {lr: 1e-4, betas: [0.5, 0.999]}
        losses:
          tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
    train: {niter: 10, ema_rate: 0.9}
"""


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_dcgan_moves_as_by_hand() -> None:
    trainer = trainer_of(DCGAN)
    generator, discriminator = (
        deepcopy(trainer.networks[name]).requires_grad_(True) for name in ("generator", "discriminator")
    )
    average = deepcopy(generator)
    generator_adam = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    discriminator_adam = torch.optim.Adam(discriminator.parameters(), lr=1e-4, betas=(0.5, 0.999))

    for _ in range(3):
        batch = {"hq": torch.randn(6, 1, 16, 16), "z": torch.randn(6, 8)}
        metrics = trainer.train_step(batch)

        fake = generator(batch["z"])
        scores = discriminator(fake)
        fool = binary_cross_entropy_with_logits(scores, torch.ones_like(scores))
        generator_adam.zero_grad()
        (0.7 * fool).backward()
        generator_adam.step()
        discriminator_adam.zero_grad()
        real, false = discriminator(batch["hq"]), discriminator(fake.detach())
        tell = binary_cross_entropy_with_logits(real, torch.ones_like(real))
        tell = tell + binary_cross_entropy_with_logits(false, torch.zeros_like(false))
        tell.backward()
        discriminator_adam.step()
        with torch.no_grad():
            theirs = dict(generator.named_parameters()) | dict(generator.named_buffers())
            for name, mean in [*average.named_parameters(), *average.named_buffers()]:
                mean.copy_(0.9 * mean + 0.1 * theirs[name] if mean.is_floating_point() else theirs[name])

        assert float(metrics["generator_step/fool"]) == pytest.approx(fool.item(), rel=1e-12)
        assert float(metrics["discriminator_step/total"]) == pytest.approx(tell.item(), rel=1e-12)

    _assert_equal(trainer.networks["generator"].state_dict(), generator.state_dict())
    _assert_equal(trainer.networks["discriminator"].state_dict(), discriminator.state_dict())
    _assert_equal(trainer.emas["generator"].state_dict(), average.state_dict())
    for step, adam in (("generator_step", generator_adam), ("discriminator_step", discriminator_adam)):
        ours, theirs = trainer.optimizers[step].state_dict()["state"], adam.state_dict()["state"]
        assert ours.keys() == theirs.keys()
        for index in theirs:
            _assert_equal(ours[index], theirs[index])


def _assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-12, atol=1e-12)
