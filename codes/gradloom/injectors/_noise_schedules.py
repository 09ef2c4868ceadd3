"""How much noise each timestep of a diffusion adds, and which timesteps a sampler visits."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

MOST = 0.999  # no timestep of the cosine schedule adds more


@dataclass(frozen=True)
class BetaSchedule:
    """The variances beta of the noise that the timesteps add, T of them.

    `linear` rises from 0.1 / T to 20 / T, which for T = 1000 is Ho et al.'s (arXiv 2006.11239, section 4); with
    `cosine` the share of the image that is left follows cos² (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 17).
    """

    schedule_name: Literal["linear", "cosine"]
    num_diffusion_timesteps: Annotated[int, Ge(2)]

    def __post_init__(self) -> None:
        count = self.num_diffusion_timesteps
        if self.schedule_name == "linear" and count <= 20:
            raise ValueError(f"'num_diffusion_timesteps' of a linear schedule is 21 or more, not {count}; see 'cosine'")

    def betas(self) -> Tensor:
        """The variances (T,) in float64."""
        count = self.num_diffusion_timesteps
        if self.schedule_name == "linear":
            return torch.linspace(0.1 / count, 20 / count, count, dtype=torch.float64)
        angles = (torch.arange(count + 1, dtype=torch.float64) / count + 0.008) / 1.008 * math.pi / 2
        left = angles.cos().square()
        return (1 - left[1:] / left[:-1]).clamp(max=MOST)


def evenly(count: int, kept: int) -> list[int]:
    """So many of the timesteps 0 to count - 1, both ends among them, as far from one another as whole numbers can be.

    Nichol and Dhariwal 2021, section 4.
    """
    step = (count - 1) / max(1, kept - 1)
    return [round(step * place) for place in range(kept)]


def with_stride(count: int, kept: int) -> list[int]:
    """So many of the timesteps, from 0 on at one distance, as DDIM takes them; a `ValueError` if there is none such.

    Song et al. 2021 (arXiv 2010.02502), appendix D.2.
    """
    stride = next((stride for stride in range(1, count + 1) if len(range(0, count, stride)) == kept), None)
    if stride is None:
        near = next(n for n in range(kept, 0, -1) if any(len(range(0, count, s)) == n for s in range(1, count + 1)))
        raise ValueError(
            f"'respaced_timestep_spacing' {kept}: with 'use_ddim' the {count} timesteps are passed at one distance, "
            f"and none passes {kept} of them; write {near}"
        )
    return list(range(0, count, stride))
