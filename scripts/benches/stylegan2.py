"""StyleGAN2 with both its regularisers, as options and as one writes it by hand."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benches.common import Batch
from benches.loops import Case, Loop

OPTIONS = """
name: bench_stylegan2
networks:
  generator:
    which_model: stylegan2_rosinality_gen
    kwargs: {size: SIZE, style_dim: STYLES, channel_multiplier: 1, max_channels: STYLES}
  discriminator:
    which_model: stylegan2_rosinality_disc
    ema: false
    kwargs: {size: SIZE, channel_multiplier: 1, max_channels: STYLES}
steps:
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.0, 0.99]}
    injectors:
      noise: {type: stylegan2_noise, latent_dim: STYLES, in: hq, out: z}
      drawn: {type: generator, generator: generator, in: z, out: [fake, styles]}
    losses:
      gan: {type: stylegan2_divergence, logistic: true, gen_loss: true, discriminator: discriminator, fake: fake}
  path_length_step:
    training: generator
    every: 4
    optimizer_of: generator_step
    injectors:
      path_noise: {type: stylegan2_noise, latent_dim: STYLES, in: hq, out: path_z}
      path_drawn: {type: generator, generator: generator, in: path_z, out: [path_images, path_styles]}
    losses:
      path_length: {type: stylegan2_pathlen, gen: path_images, w_styles: path_styles, weight: 8}
  discriminator_step:
    training: discriminator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.0, 0.99]}
    losses:
      gan: {type: stylegan2_divergence, logistic: true, real: hq, fake: fake}
      r1: {type: gradient_penalty, at: hq, every: 16, weight: 80}
train: {niter: 1000000}
"""


class StyleGAN2Loop(Loop):
    """The loop that one would write: mixing, R1 every 16 iterations, path lengths every 4."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, betas: tuple[float, float]) -> None:
        super().__init__(generator, discriminator, betas)
        self.iteration, self.mean_length = 0, 0.0

    def latents(self, hq: Tensor) -> list[Tensor]:
        shape = (len(hq), self.g.get_submodule("style.1").get_parameter("weight").shape[1])
        first, second = (torch.randn(shape, device=hq.device) for _ in range(2))
        return [first, torch.where(torch.rand(len(hq), 1, device=hq.device) < 0.9, second, first)]

    def __call__(self, batch: Batch) -> dict[str, float]:
        hq = batch["hq"]
        fake, _ = self.g(self.latents(hq))
        loss_g = F.softplus(-self.d(fake)).mean()
        self.update(self.opt_g, loss_g)
        self.average()
        losses = {"g": float(loss_g.detach())}
        if self.iteration % 4 == 0:
            losses["path_length"] = self.smooth(hq)
        real = hq.detach().requires_grad_(self.iteration % 16 == 0)
        score = self.d(real)
        loss_d = F.softplus(-score).mean() + F.softplus(self.d(fake.detach())).mean()
        if real.requires_grad:
            (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
            loss_d = loss_d + 80 * slope.square().sum((1, 2, 3)).mean()
        self.update(self.opt_d, loss_d)
        self.iteration += 1
        return {**losses, "d": float(loss_d.detach())}

    def smooth(self, hq: Tensor) -> float:
        """The update of the path length regulariser."""
        images, styles = self.g(self.latents(hq))
        noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (slopes,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
        lengths = slopes.square().sum(2).mean(1).sqrt()
        self.mean_length += 0.01 * (float(lengths.detach().mean()) - self.mean_length)
        loss = (lengths - self.mean_length).square().mean()
        self.update(self.opt_g, 8 * loss)
        self.average()
        return float(loss.detach())

    def update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def case(size: int, styles: int, batch: int) -> Case:
    """A comparison whose rounds are of 16 iterations, in which every regulariser has its turn."""
    options = OPTIONS.replace("SIZE", str(size)).replace("STYLES", str(styles))
    return Case(options, StyleGAN2Loop, (0.0, 0.99), {"hq": (batch, 3, size, size)}, 16)
