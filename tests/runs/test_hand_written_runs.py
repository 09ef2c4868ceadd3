"""Runs in the ancestor's dialect end where loops written by hand in plain PyTorch end."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from test_parity import TinyDisc, TinyGen
from torch import Tensor, nn
from torch.nn import functional as F

from making import trainer_of

HEAD = """
    name: by_hand
    model: extensibletrainer
    networks:
      generator: {type: generator, which_model: tiny_gen, kwargs: {nf: 8}}
      disc: {type: discriminator, which_model: tiny_disc, kwargs: {nf: 8}}
    train: {niter: 1000, mega_batch_factor: 1, %s}
    steps:
"""
DISC = """
      disc_step:
        training: disc
        %s
        optimizer_params: {lr: 0.001, weight_decay: 0, beta1: 0.9, beta2: 0.99}
        injectors:
          dgen: {type: generator, generator: generator, grad: false, in: lq, out: dgen}
        losses:
          gan_d: {type: discriminator_gan, gan_type: gan, weight: 1, real: hq, fake: dgen%s}
"""
GEN = """
      gen_step:
        training: generator
        %s
        optimizer_params: {lr: 0.001, weight_decay: %s, beta1: 0.9, beta2: 0.99}
        injectors:
          gen: {type: generator, generator: generator, in: lq, out: gen}
        losses:
          pix: {type: pix, weight: 0.5, criterion: l1, real: hq, fake: gen%s}
          gan_g: {type: generator_gan, gan_type: gan, weight: 0.1, discriminator: disc, fake: gen, real: hq%s}
"""

Networks = tuple[TinyGen, TinyDisc]
Loop = Callable[[Networks, dict[str, torch.optim.Optimizer], int, Tensor, Tensor], None]


def against(score: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(score, torch.full_like(score, target))


def adamw(network: nn.Module, decay: float = 0.0) -> torch.optim.Optimizer:
    named = sorted(network.named_parameters())
    groups = [
        {"params": [p for name, p in named if not ("norm" in name or name.endswith("bias"))], "weight_decay": decay},
        {"params": [p for name, p in named if "norm" in name or name.endswith("bias")], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))


def teach_disc(networks: Networks, adams: dict[str, Any], lq: Tensor, hq: Tensor, penalty: bool = False) -> None:
    generator, disc = networks
    with torch.no_grad():
        fake = generator(lq)
    real = hq.clone().requires_grad_(penalty)
    d_real, d_fake = disc(real), disc(fake)
    loss = against(d_real, 1) + against(d_fake, 0)
    if penalty:
        (slope,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
        loss = loss + 10 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    adams["disc"].zero_grad()
    loss.backward()
    adams["disc"].step()


def teach_gen(
    networks: Networks,
    adams: dict[str, Any],
    lq: Tensor,
    hq: Tensor,
    pix: bool = True,
    gan: bool = True,
    clip: float = 0,
) -> None:
    generator, disc = networks
    fake = generator(lq)
    loss = torch.zeros(())
    if pix:
        loss = loss + 0.5 * F.l1_loss(fake, hq)
    if gan:
        loss = loss + 0.1 * against(disc(fake), 1)
    adams["generator"].zero_grad()
    loss.backward()
    if clip:
        for group in adams["generator"].param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], clip)
    adams["generator"].step()


def plain(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
    teach_disc(networks, adams, lq, hq)
    teach_gen(networks, adams, lq, hq)


def gated_losses(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
    teach_disc(networks, adams, lq, hq)
    teach_gen(networks, adams, lq, hq, gan=5 <= iteration <= 20 and iteration % 3 == 0)


def gated_steps(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
    if iteration >= 4 and iteration % 2 == 0:
        teach_disc(networks, adams, lq, hq)
    if iteration <= 15:
        teach_gen(networks, adams, lq, hq)


def penalized(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
    teach_disc(networks, adams, lq, hq, penalty=True)
    teach_gen(networks, adams, lq, hq)


def clipped(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
    teach_disc(networks, adams, lq, hq)
    teach_gen(networks, adams, lq, hq, clip=0.02)


def scheduled(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
    rate = 1e-3 * iteration / 6 if iteration < 6 else 1e-3 * 0.5 ** sum(iteration >= m for m in (10, 18))
    for adam in adams.values():
        for group in adam.param_groups:
            group["lr"] = rate
    plain(networks, adams, iteration, lq, hq)


def restarted(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
    rate = 1e-3 * 0.5 ** sum(iteration >= m for m in (4, 8)) if iteration < 12 else 0.5e-3 * 0.5 ** (iteration >= 16)
    for adam in adams.values():
        for group in adam.param_groups:
            group["lr"] = rate
    plain(networks, adams, iteration, lq, hq)


CASES: dict[str, tuple[str, Loop, float]] = {
    "plain": (HEAD % "warmup_iter: -1" + DISC % ("", "") + GEN % ("", 0, "", ""), plain, 0),
    "gated losses": (
        HEAD % "warmup_iter: -1" + DISC % ("", "") + GEN % ("", 0, "", ", after: 5, before: 20, every: 3"),
        gated_losses,
        0,
    ),
    "gated steps": (
        HEAD % "warmup_iter: -1" + DISC % ("after: 4\n        every: 2", "") + GEN % ("before: 15", 0, "", ""),
        gated_steps,
        0,
    ),
    "gradient penalty": (
        HEAD % "warmup_iter: -1" + DISC % ("", ", gradient_penalty: true") + GEN % ("", 0, "", ""),
        penalized,
        0,
    ),
    "clipping and weight decay": (
        HEAD % "warmup_iter: -1" + DISC % ("", "") + GEN % ("clip_grad_eps: 0.02", 0.1, "", ""),
        clipped,
        0.1,
    ),
    "warm-up and milestones": (
        HEAD % "warmup_iter: 6, default_lr_scheme: MultiStepLR, gen_lr_steps: [10, 18], lr_gamma: 0.5"
        + DISC % ("", "")
        + GEN % ("", 0, "", ""),
        scheduled,
        0,
    ),
    "restarts": (
        HEAD
        % "default_lr_scheme: MultiStepLR, gen_lr_steps: [4, 8, 16], lr_gamma: 0.5, restarts: [0, 12], restart_weights: [1, 0.5]"
        + DISC % ("", "")
        + GEN % ("", 0, "", ""),
        restarted,
        0,
    ),
}


def compare(text: str, loop: Loop, optimizers: Callable[[Networks], dict[str, Any]], iterations: int = 24) -> None:
    trainer = trainer_of(text)
    networks: Any = tuple(deepcopy(trainer.networks[name]).requires_grad_(True) for name in ("generator", "disc"))
    mine = optimizers(networks)
    generator = torch.Generator().manual_seed(7)
    for iteration in range(iterations):
        lq = torch.rand(4, 3, 8, 8, generator=generator)
        hq = torch.rand(4, 3, 16, 16, generator=generator)
        trainer.train_step({"lq": lq, "hq": hq})
        loop(networks, mine, iteration, lq, hq)
    for name, network in zip(("generator", "disc"), networks, strict=True):
        for key, value in network.state_dict().items():
            ours = trainer.networks[name].state_dict()[key]
            assert (ours - value).norm() <= 1e-5 * value.norm(), f"{name}.{key}"


@pytest.mark.parametrize("case", CASES)
def test_a_run_ends_where_the_loop_does(case: str) -> None:
    text, loop, decay = CASES[case]
    compare(text, loop, lambda networks: {"generator": adamw(networks[0], decay), "disc": adamw(networks[1])})


def test_direct_losses_over_discriminator_injectors() -> None:
    text = (
        HEAD % "warmup_iter: -1"
        + """
      disc_step:
        training: disc
        optimizer: sgd
        optimizer_params: {lr: 0.01, momentum: 0.9, weight_decay: 0}
        injectors:
          dgen: {type: generator, generator: generator, grad: false, in: lq, out: dgen}
          real: {type: discriminator, discriminator: disc, in: hq, out: score_real}
          fake: {type: discriminator, discriminator: disc, in: dgen, out: score_fake}
        losses:
          up: {type: direct, key: score_real, inverted: true, weight: 0.7}
          down: {type: direct, key: score_fake, weight: 0.3}
      gen_step:
        training: generator
        optimizer: sgd
        optimizer_params: {lr: 0.01, momentum: 0.9, weight_decay: 0}
        injectors:
          gen: {type: generator, generator: generator, in: lq, out: gen}
          score: {type: discriminator, discriminator: disc, in: gen, out: score}
        losses:
          up: {type: direct, key: score, inverted: true, weight: 1, annealing_termination_step: 8}
    """
    )

    def loop(networks: Networks, optimizers: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
        generator, disc = networks
        optimizers["disc"].zero_grad()
        (0.3 * disc(generator(lq).detach()).mean() - 0.7 * disc(hq).mean()).backward()
        optimizers["disc"].step()
        optimizers["generator"].zero_grad()
        (-disc(generator(lq)).mean() * min(iteration, 8) / 8).backward()
        optimizers["generator"].step()

    def sgd(networks: Networks) -> dict[str, Any]:
        made = [torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9) for network in networks]
        return {"generator": made[0], "disc": made[1]}

    compare(text, loop, sgd)


def test_a_chain_of_injectors_with_a_scaled_pixel_loss() -> None:
    text = (
        HEAD % "warmup_iter: -1"
        + """
      gen_step:
        training: generator
        optimizer_params: {lr: 0.001, weight_decay: 0, beta1: 0.9, beta2: 0.99}
        injectors:
          normal: {type: normalize, in: lq, shift: 0.5, scale: 0.25, out: normal}
          grey: {type: grey, in: normal, out: grey}
          gen: {type: generator, generator: generator, in: grey, out: raw}
          gen2: {type: denormalize, in: raw, shift: 0.5, scale: 0.25, out: gen}
          small: {type: interpolate, in: gen, scale_factor: 0.5, mode: bilinear, out: small}
          both: {type: concatenate, in: [small, lq], dim: 1, out: both}
          target: {type: concatenate, in: [lq, lq], dim: 1, out: target}
        losses:
          pix: {type: pix, weight: 1, criterion: l2, real: hq, fake: gen, real_scale: 2, real_offset: -0.5}
          near: {type: pix, weight: 0.5, criterion: l1, real: target, fake: both}
    """
    )

    def loop(networks: Networks, optimizers: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
        grey = ((lq - 0.5) / 0.25).mean(1, keepdim=True).repeat(1, 3, 1, 1)
        gen = networks[0](grey) * 0.25 + 0.5
        small = F.interpolate(gen, scale_factor=0.5, mode="bilinear")
        loss = F.mse_loss(gen, hq * 2 - 0.5) + 0.5 * F.l1_loss(torch.cat([small, lq], 1), torch.cat([lq, lq], 1))
        optimizers["generator"].zero_grad()
        loss.backward()
        optimizers["generator"].step()

    compare(text, loop, lambda networks: {"generator": adamw(networks[0])})
