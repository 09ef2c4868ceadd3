"""ESRGAN with patches, features and the translational loss ends where a loop written by hand in plain PyTorch ends."""

from copy import deepcopy
from typing import Any

import torch
from test_hand_written_runs import adamw, against
from test_parity import TinyDisc, TinyGen
from torch import Tensor
from torch.nn import functional as F

from gradloom.losses._extractors import Extractor
from making import trainer_of

PATCHES = """
          small: {type: image_patch, in: lq, out: %slq, patch_size: 8}
          large: {type: image_patch, in: hq, out: %shq, patch_size: 16}
"""
RUN = f"""
    name: esrgan_by_hand
    networks:
      generator: {{type: generator, which_model: tiny_gen, kwargs: {{nf: 8}}}}
      disc: {{type: discriminator, which_model: tiny_disc, kwargs: {{nf: 8}}}}
    steps:
      disc_step:
        training: disc
        lr: 0.001                # where the ancestor's recipe has it
        weight_decay: 0
        beta1: 0.9
        beta2: 0.99
        injectors: {PATCHES % ("p", "p")}
          dgen: {{type: generator, generator: generator, grad: false, in: plq, out: dgen}}
        losses:
          gan: {{type: discriminator_gan, gan_type: gan, weight: 1, real: phq, fake: dgen, gradient_penalty: true}}
      gen_step:
        training: generator
        optimizer_params: {{lr: 0.001, weight_decay: 0, beta1: 0.9, beta2: 0.99}}
        injectors: {PATCHES % ("g", "g")}
          gen: {{type: generator, generator: generator, in: glq, out: gen}}
        losses:
          pix: {{type: pix, weight: 0.05, criterion: l1, real: ghq, fake: gen}}
          feature: {{type: feature, weights: random, layer: 3, weight: 1, criterion: l1, real: ghq, fake: gen, after: 3}}
          gan: {{type: generator_gan, gan_type: gan, weight: 0.02, discriminator: disc, fake: gen, real: ghq, after: 5}}
          shift: {{type: translational, weight: 2, criterion: l1, generator: generator, generator_output_index: 0,
            detach_fake: false, patch_size: 16, overlap: 8, real: gen, fake: [glq], after: 3}}
    train: {{niter: 100}}
"""


def teach_disc(generator: TinyGen, disc: TinyDisc, adam: Any, lq: Tensor, hq: Tensor) -> None:
    with torch.no_grad():
        fake = generator(lq[..., :8, :8])
    real = hq[..., :16, :16].clone().requires_grad_()
    d_real = disc(real)
    (slope,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
    penalty = 10 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    adam.zero_grad()
    (against(d_real, 1) + against(disc(fake), 0) + penalty).backward()
    adam.step()


def teach_gen(
    generator: TinyGen, disc: TinyDisc, adam: Any, lq: Tensor, hq: Tensor, iteration: int, see: Extractor, corner: int
) -> None:
    fake, real = generator(lq[..., :8, :8]), hq[..., :16, :16]
    loss = 0.05 * F.l1_loss(fake, real)
    if iteration >= 3:
        loss = loss + F.l1_loss(see(fake), see(real))
        patch = [lq[..., :8, -8:], lq[..., -8:, :8], lq[..., -8:, -8:]][corner]
        top, left = [(8, 0), (0, 8), (0, 0)][corner]
        shared = generator(patch)[..., top : top + 8, left : left + 8]
        loss = loss + 2 * F.l1_loss(shared, fake[..., 8:16, 8:16])
    if iteration >= 5:
        loss = loss + 0.02 * against(disc(fake), 1)
    adam.zero_grad()
    loss.backward()
    adam.step()


def test_a_run_of_the_ancestors_recipe_ends_where_the_loop_does() -> None:
    trainer = trainer_of(RUN)
    generator: Any = deepcopy(trainer.networks["generator"]).requires_grad_(True)
    disc: Any = deepcopy(trainer.networks["disc"]).requires_grad_(True)
    adams, see = (adamw(generator), adamw(disc)), Extractor("vgg", 3, "random")
    draws = torch.Generator().manual_seed(7)
    for iteration in range(16):
        lq, hq = torch.rand(4, 3, 12, 12, generator=draws), torch.rand(4, 3, 24, 24, generator=draws)
        torch.manual_seed(iteration)
        trainer.train_step({"lq": lq, "hq": hq})
        torch.manual_seed(iteration)
        corner = int(torch.randint(3, ()))
        teach_disc(generator, disc, adams[1], lq, hq)
        teach_gen(generator, disc, adams[0], lq, hq, iteration, see, corner)
    for name, network in (("generator", generator), ("disc", disc)):
        for key, value in network.state_dict().items():
            ours = trainer.networks[name].state_dict()[key]
            assert (ours - value).norm() <= 1e-5 * value.norm(), f"{name}.{key}"
