"""Plans and trainers from YAML text, for tests."""

import tempfile
from pathlib import Path
from textwrap import dedent

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import gradloom
from gradloom.plan.plan import Plan


@gradloom.networks.register("test_mlp")
class MLP(nn.Sequential):
    """One hidden layer."""

    def __init__(self, inputs: int, outputs: int, width: int = 16) -> None:
        super().__init__(nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, outputs))


GAN = """
    name: gan
    networks:
      generator: {which_model: test_mlp, inputs: 4, outputs: 2}
      discriminator: {which_model: test_mlp, inputs: 2, outputs: 1}
    steps:
      discriminator_step:
        training: discriminator
        optimizer: adam
        optimizer_params: {lr: 1e-2}
        injectors:
          fake: {type: generator, generator: generator, in: z, out: fake, grad: false}
        losses:
          gan: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
      generator_step:
        training: generator
        optimizer: adam
        optimizer_params: {lr: 1e-2}
        injectors:
          drawn: {type: generator, generator: generator, in: z, out: drawn}
        losses:
          pix: {type: pix, criterion: l2, real: hq, fake: drawn, weight: 0.1}
          gan: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: drawn}
    train: {niter: 100, ema_rate: 0.9}
"""

IMAGE_GAN = """
networks:
  generator: {which_model: dcgan_generator, image_size: 8, latent_dim: 4, channels: 1, nf: 4}
  discriminator: {which_model: dcgan_discriminator, image_size: 8, channels: 1, nf: 4}
steps:
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-3}
    injectors:
      noise: {type: noise, in: hq, shape: [4], out: z}
      drawn: {type: generator, generator: generator, in: z, out: fake}
    losses:
      fool: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: fake}
  discriminator_step:
    training: discriminator
    optimizer: adam
    optimizer_params: {lr: 1e-3}
    losses:
      tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
"""
"""The networks and steps of a GAN on images of 8 pixels."""


def plan_of(text: str, *overrides: str) -> Plan:
    """Compile the text of an options file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "options.yml"
        file.write_text(dedent(text))
        return gradloom.load(file, set=overrides)


def trainer_of(text: str, *overrides: str, device: str = "cpu") -> gradloom.Trainer:
    """Build the trainer of the text of an options file."""
    return gradloom.ExtensibleTrainer(plan_of(text, *overrides), device=device)


def gan_batch(size: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """A batch for `GAN`."""
    generator = torch.Generator().manual_seed(seed)
    return {"hq": torch.randn(size, 2, generator=generator), "z": torch.randn(size, 4, generator=generator)}


def weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's tensors."""
    return {name: value.clone() for name, value in network.state_dict().items()}


@gradloom.datasets.register("test_pairs")
class Pairs(Dataset[dict[str, Tensor]]):
    """Two random keys."""

    keys = ("hq", "z")

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {key: value[0] for key, value in gan_batch(1, index).items()}
