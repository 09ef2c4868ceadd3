"""StyleGAN2 with lazy regularisers ends, after nine iterations, where a loop written by hand in plain PyTorch ends."""

import math
from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from making import trainer_of

OPTIONS = """
    name: stylegan2
    speed: safe
    networks:
      generator: {which_model: stylegan2_rosinality_gen, size: 8, style_dim: 5, n_mlp: 2, max_channels: 4}
      discriminator: {which_model: stylegan2_rosinality_disc, size: 8, max_channels: 4, ema: false}
    steps:
      generator_step:
        training: generator
        optimizer: adam
        optimizer_params: {lr: 1.6e-3, betas: [0.0, 0.992]}
        injectors:
          noise: {type: stylegan2_noise, latent_dim: 5, in: hq, out: z}
          drawn: {type: generator, generator: generator, in: z, out: [fake, styles]}
        losses:
          fool: {type: stylegan2_divergence, logistic: true, gen_loss: true, discriminator: discriminator, fake: fake}
      path_length_step:
        training: generator
        every: 4
        optimizer_of: generator_step
        injectors:
          path_noise: {type: stylegan2_noise, latent_dim: 5, in: hq, out: path_z}
          path_drawn: {type: generator, generator: generator, in: path_z, out: [path_images, path_styles]}
        losses:
          path_length: {type: stylegan2_pathlen, gen: path_images, w_styles: path_styles, weight: 8}
      discriminator_step:
        training: discriminator
        optimizer: adam
        optimizer_params: {lr: 2e-3, betas: [0.0, 0.99]}
        losses:
          tell: {type: stylegan2_divergence, logistic: true, real: hq, fake: fake}
          r1: {type: gradient_penalty, at: hq, every: 3, weight: 15}
    train: {niter: 10, ema_rate: 0.9}
"""


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def latents(hq: Tensor) -> tuple[Tensor, Tensor]:
    first = torch.randn(len(hq), 5)
    mixed = torch.rand(len(hq), 1) < 0.9
    return first, torch.where(mixed, torch.randn(len(hq), 5), first)


def test_stylegan2_moves_as_by_hand() -> None:
    trainer = trainer_of(OPTIONS)
    g, d = (deepcopy(trainer.networks[name]).requires_grad_(True) for name in ("generator", "discriminator"))
    average = deepcopy(g)
    adam_g = torch.optim.Adam(g.parameters(), lr=1.6e-3, betas=(0.0, 0.992))
    adam_d = torch.optim.Adam(d.parameters(), lr=2e-3, betas=(0.0, 0.99))
    lengths_mean = None

    def update(adam: torch.optim.Optimizer, loss: Tensor) -> None:
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        if adam is adam_g:
            with torch.no_grad():
                for mean, parameter in zip(average.parameters(), g.parameters(), strict=True):
                    mean.mul_(0.9).add_(parameter, alpha=0.1)

    for iteration in range(9):
        hq = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(iteration)) * 2 - 1
        noise = torch.get_rng_state()
        trainer.train_step({"hq": hq})
        torch.set_rng_state(noise)

        fake, _ = g(latents(hq))
        update(adam_g, softplus(-d(fake)).mean())
        if iteration % 4 == 0:
            images, styles = g(latents(hq))
            y = torch.randn_like(images) / math.sqrt(64)
            (slopes,) = torch.autograd.grad((images * y).sum(), styles, create_graph=True)
            lengths = slopes.square().sum(2).mean(1).sqrt()
            mean = lengths.mean().detach()
            lengths_mean = mean if lengths_mean is None else 0.99 * lengths_mean + 0.01 * mean
            update(adam_g, 8 * (lengths - lengths_mean).square().mean())
        real = hq.clone().requires_grad_(iteration % 3 == 0)
        score = d(real)
        loss = softplus(-score).mean() + softplus(d(fake.detach())).mean()
        if real.requires_grad:
            (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
            loss = loss + 15 * slope.square().sum((1, 2, 3)).mean()
        update(adam_d, loss)

    for ours, by_hand in ((trainer.networks["generator"], g), (trainer.networks["discriminator"], d)):
        for name, value in by_hand.named_parameters():
            torch.testing.assert_close(ours.get_parameter(name), value, rtol=1e-9, atol=1e-10)
    for name, value in average.named_parameters():
        torch.testing.assert_close(trainer.emas["generator"].get_parameter(name), value, rtol=1e-9, atol=1e-10)
