"""Options, and what one writes by hand for them: the same networks, losses, optimizers and average."""

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benches.common import Batch

MICRO = """
name: bench_micro
networks:
  generator: {which_model: bench_mlp, inputs: 16, outputs: 2}
  discriminator: {which_model: bench_mlp, inputs: 2, outputs: 1, ema: false}
steps:
  discriminator_step:
    training: discriminator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.5, 0.99]}
    injectors:
      noise: {type: noise, in: hq, shape: [16], out: z}
      fake: {type: generator, generator: generator, in: z, out: fake, grad: false}
    losses:
      gan: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.5, 0.99]}
    injectors:
      drawn: {type: generator, generator: generator, in: z, out: drawn}
    losses:
      gan: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: drawn}
train: {niter: 1000000}
"""

ESRGAN = """
name: bench_esrgan
networks:
  generator: {which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 16, nb: 1, scale: 4}
  discriminator: {which_model: discriminator_vgg_128_gn, in_nc: 3, nf: 16, image_size: 128, ema: false}
steps:
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.9, 0.99]}
    injectors:
      made: {type: generator, generator: generator, in: lq, out: gen}
    losses:
      pix: {type: pix, criterion: l1, real: hq, fake: gen, weight: 1e-2}
      gan: {type: generator_gan, gan_type: ragan, discriminator: discriminator, fake: gen, real: hq, weight: 5e-3}
  discriminator_step:
    training: discriminator
    optimizer: adam
    optimizer_params: {lr: 1e-4, betas: [0.9, 0.99]}
    losses:
      gan: {type: discriminator_gan, gan_type: ragan, real: hq, fake: gen}
train: {niter: 1000000}
"""


DCGAN = """
name: bench_dcgan
networks:
  generator: {which_model: dcgan_generator, image_size: 64, latent_dim: 100, nf: 64}
  discriminator: {which_model: dcgan_discriminator, image_size: 64, nf: 64, ema: false}
steps:
  generator_step:
    training: generator
    optimizer: adam
    optimizer_params: {lr: 2e-4, betas: [0.5, 0.999]}
    injectors:
      noise: {type: noise, in: hq, shape: [100], out: z}
      drawn: {type: generator, generator: generator, in: z, out: fake}
    losses:
      gan: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: fake}
  discriminator_step:
    training: discriminator
    optimizer: adam
    optimizer_params: {lr: 2e-4, betas: [0.5, 0.999]}
    losses:
      gan: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
train: {niter: 1000000}
"""


def cost(scores: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


class Loop:
    """What one writes by hand: two optimizers, an average, losses read for the log."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, betas: tuple[float, float]) -> None:
        self.g, self.d = generator, discriminator
        self.opt_g = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=betas)
        self.opt_d = torch.optim.Adam(discriminator.parameters(), lr=1e-4, betas=betas)
        self.ema = deepcopy(generator).requires_grad_(False)

    def average(self) -> None:
        with torch.no_grad():
            for mean, parameter in zip(self.ema.parameters(), self.g.parameters(), strict=True):
                mean.lerp_(parameter, 1 - 0.999)


class MicroLoop(Loop):
    def __call__(self, batch: Batch) -> dict[str, float]:
        z = torch.randn(len(batch["hq"]), 16, device=batch["hq"].device)
        fake = self.g(z).detach()
        loss_d = cost(self.d(batch["hq"]), 1) + cost(self.d(fake), 0)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        loss_g = cost(self.d(self.g(z)), 1)
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        self.average()
        return {"d": float(loss_d.detach()), "g": float(loss_g.detach())}


class EsrganLoop(Loop):
    def __call__(self, batch: Batch) -> dict[str, float]:
        gen = self.g(batch["lq"])
        real, fake = self.d(batch["hq"]).detach(), self.d(gen)
        pix = F.l1_loss(gen, batch["hq"])
        gan = (cost(real - fake.mean(), 0) + cost(fake - real.mean(), 1)) / 2
        loss_g = 1e-2 * pix + 5e-3 * gan
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        self.average()
        real, fake = self.d(batch["hq"]), self.d(gen.detach())
        loss_d = cost(real - fake.mean(), 1) + cost(fake - real.mean(), 0)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        return {"pix": float(pix.detach()), "gan": float(gan.detach()), "d": float(loss_d.detach())}


class DcganLoop(Loop):
    def __call__(self, batch: Batch) -> dict[str, float]:
        z = torch.randn(len(batch["hq"]), 100, device=batch["hq"].device)
        fake = self.g(z)
        loss_g = cost(self.d(fake), 1)
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        self.average()
        loss_d = cost(self.d(batch["hq"]), 1) + cost(self.d(fake.detach()), 0)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        return {"g": float(loss_g.detach()), "d": float(loss_d.detach())}


@dataclass(frozen=True)
class Case:
    """One comparison: the options, the loop, a batch's shapes, and iterations a round."""

    options: str
    loop: type[Loop]
    betas: tuple[float, float]
    shapes: dict[str, tuple[int, ...]]
    iterations: int
    changes: tuple[str, ...] = field(default=())


FULL = ESRGAN.replace("nf: 16, nb: 1,", "nf: 64, nb: 23,").replace("in_nc: 3, nf: 16", "in_nc: 3, nf: 64")
CASES = {
    "micro": Case(MICRO, MicroLoop, (0.5, 0.99), {"hq": (8, 2)}, 100),
    "esrgan": Case(ESRGAN, EsrganLoop, (0.9, 0.99), {"lq": (4, 3, 32, 32), "hq": (4, 3, 128, 128)}, 2),
    "dcgan": Case(DCGAN, DcganLoop, (0.5, 0.999), {"hq": (8, 3, 64, 64)}, 3),
    "dcgan_16": Case(DCGAN, DcganLoop, (0.5, 0.999), {"hq": (16, 3, 64, 64)}, 2),
}
ON_GPUS = {
    "esrgan_full": Case(FULL, EsrganLoop, (0.9, 0.99), {"lq": (16, 3, 32, 32), "hq": (16, 3, 128, 128)}, 3),
    "dcgan_128": Case(DCGAN, DcganLoop, (0.5, 0.999), {"hq": (128, 3, 64, 64)}, 20),
}
