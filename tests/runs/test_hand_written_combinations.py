"""Combinations of options in the ancestor's dialect end where loops written by hand do.

In ragan gradients cancel but for rounding, of which Adam makes steps: there losses, clipping and their sums have to round
as the ancestor's, which took torch's losses, and norms in the order of names.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_hand_written_runs import HEAD, Networks, adamw, against, compare
from torch import Tensor
from torch.nn import functional as F

STEPS = """
      disc_step:
        training: disc
        %(disc)s
        injectors:
          dgen: {type: generator, generator: generator, grad: false, in: lq, out: dgen}
        losses:
          gan_d: {type: discriminator_gan, gan_type: %(gan)s, weight: 1.7, real: hq, fake: dgen%(penalty)s}
      gen_step:
        training: generator
        %(gen)s
        injectors:
          gen: {type: generator, generator: generator, in: lq, out: gen}
        losses:
          pix: {type: pix, weight: 0.73, criterion: l2, real: hq, fake: gen}
          gan_g: {type: generator_gan, gan_type: %(gan)s, weight: 0.37, discriminator: disc, fake: gen, real: hq}
"""
ADAMW = "optimizer_params: {lr: 0.001, weight_decay: 0.03, beta1: 0.9, beta2: 0.99}"
PLAIN = {"disc": ADAMW, "gen": ADAMW, "gan": "gan", "penalty": ""}


def disc_loss(networks: Networks, lq: Tensor, hq: Tensor, relative: bool) -> Tensor:
    generator, disc = networks
    with torch.no_grad():
        fake = generator(lq)
    real = hq.clone().requires_grad_(relative)
    d_real, d_fake = disc(real), disc(fake)
    if not relative:
        return 1.7 * (against(d_real, 1) + against(d_fake, 0))
    (slope,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
    penalty = 10 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    return 1.7 * (against(d_real - d_fake.mean(), 1) + against(d_fake - d_real.mean(), 0) + penalty)


def gen_loss(networks: Networks, lq: Tensor, hq: Tensor, relative: bool) -> Tensor:
    generator, disc = networks
    fake = generator(lq)
    near = 0.73 * F.mse_loss(fake, hq)
    if not relative:
        return near + 0.37 * against(disc(fake), 1)
    d_real = disc(hq).detach()
    d_fake = disc(fake)
    return near + 0.37 * ((against(d_real - d_fake.mean(), 0) + against(d_fake - d_real.mean(), 1)) / 2)


def learn(
    networks: Networks, optimizers: dict[str, Any], lq: Tensor, hq: Tensor,
    relative: bool = False, chunks: int = 1, clip: float = 0,
) -> None:  # fmt: skip
    for name, loss in (("disc", disc_loss), ("generator", gen_loss)):
        optimizers[name].zero_grad()
        for small, large in zip(lq.chunk(chunks), hq.chunk(chunks), strict=True):
            (loss(networks, small, large, relative) / chunks).backward()
        for group in optimizers[name].param_groups if clip else ():
            torch.nn.utils.clip_grad_norm_(group["params"], clip)
        optimizers[name].step()


def both_adamw(networks: Networks) -> dict[str, Any]:
    return {"generator": adamw(networks[0], 0.03), "disc": adamw(networks[1], 0.03)}


def test_relativistic_losses_with_a_penalty_clipping_decay_and_micro_batches() -> None:
    clipped = {"disc": f"clip_grad_eps: 0.05\n        {ADAMW}", "gen": f"clip_grad_eps: 0.05\n        {ADAMW}"}
    text = HEAD % "warmup_iter: -1" + STEPS % (clipped | {"gan": "ragan", "penalty": ", gradient_penalty: true"})

    def loop(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
        learn(networks, adams, lq, hq, relative=True, chunks=2, clip=0.05)

    compare(text.replace("mega_batch_factor: 1", "mega_batch_factor: 2"), loop, both_adamw)


def test_sgd_decays_and_clips_all_parameters_alike() -> None:
    sgd = "optimizer: sgd\n        clip_grad_eps: 0.5\n        "
    sgd += "optimizer_params: {lr: 0.01, momentum: 0.9, weight_decay: 0.05}"

    def loop(networks: Networks, optimizers: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
        learn(networks, optimizers, lq, hq, clip=0.5)

    def plain(networks: Networks) -> dict[str, Any]:
        made = [torch.optim.SGD(one.parameters(), lr=0.01, momentum=0.9, weight_decay=0.05) for one in networks]
        return {"generator": made[0], "disc": made[1]}

    compare(HEAD % "warmup_iter: -1" + STEPS % (PLAIN | {"disc": sgd, "gen": sgd}), loop, plain)


def steps_forgotten(iteration: int) -> float:
    rate = 1e-3 * 0.5 ** sum(iteration >= milestone for milestone in (4, 8))
    return rate if iteration < 12 else 0.7e-3 * 0.5 ** (iteration >= 16)


def cosines(iteration: int) -> float:
    time, period, top = (iteration, 6, 1e-3) if iteration < 9 else (iteration - 9, 8, 5e-4)
    return 1e-4 + ((top if time <= period else 1e-3) - 1e-4) * (1 + math.cos(math.pi * time / period)) / 2


@pytest.mark.parametrize(
    ("train", "rate", "forgets"),
    [
        (
            "default_lr_scheme: MultiStepLR, gen_lr_steps: [4, 8, 16], lr_gamma: 0.5, restarts: [0, 12], "
            "restart_weights: [1, 0.7], clear_state: true",
            steps_forgotten,
            12,
        ),
        (
            "default_lr_scheme: CosineAnnealingLR_Restart, T_period: [30, 6, 8], warmup: 0, eta_min: 0.0001, "
            "restarts: [0, 9], restart_weights: [1, 0.5]",
            cosines,
            None,
        ),
    ],
)
def test_schedules_that_begin_anew(train: str, rate: Callable[[int], float], forgets: int | None) -> None:
    def loop(networks: Networks, adams: dict[str, Any], iteration: int, lq: Tensor, hq: Tensor) -> None:
        for adam in adams.values():
            for group in adam.param_groups:
                group["lr"] = rate(iteration)
            if iteration == forgets:
                adam.state = defaultdict(dict)
        learn(networks, adams, lq, hq)

    compare(HEAD % train + STEPS % PLAIN, loop, both_adamw)
