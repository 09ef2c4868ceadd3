"""Images that a network brings back from noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from gradloom.injectors._diffusion import Diffusion, DiffusionArgs, Estimate
from gradloom.injectors._noise_schedules import BetaSchedule, evenly, with_stride
from gradloom.injectors._sampling import Asked, ancestral, ddim
from gradloom.parts import Arguments, Injector, Net, Write, widen

Positive = Annotated[int, Gt(0)]

SEED_OF_FIXED_NOISE = 0


class GaussianDiffusionInference(Injector, type="gaussian_diffusion_inference"):
    """Draws images (B, C, H, W) in [-1, 1], timestep by timestep, from a network that `gaussian_diffusion` taught.

    They are `output_scale_factor` times as large as those that `model_input_keys` gives as `low_res`, (B, C, H, W), and
    have as many channels; without any, they are of `output_shape`. The network predicts in eval mode and without
    gradients, and is left in the mode that it was in, unlike in the ancestor. The image that it means is kept in
    [-1, 1] at each timestep.

    Sampling is Ho et al.'s (arXiv 2006.11239, algorithm 2), over fewer timesteps as in arXiv 2102.09672, section 4; or
    with `use_ddim` Song et al.'s (arXiv 2010.02502). `conditioning_free` of `diffusion_args` calls the network a second
    time, with `conditioning_free=True`, and goes on in the direction from that prediction to the first
    (arXiv 2207.12598, equation 6); `loss_type` is of no concern here.
    """

    generator: Net
    beta_schedule: BetaSchedule
    diffusion_args: DiffusionArgs
    model_input_keys: dict[str, Arguments] = field(default_factory=dict)  # state keys or constants, by keyword
    out: Write
    output_batch_size: Positive | None = None  # samples to draw, of the first ones of a batch; None is all
    output_scale_factor: Positive | None = None  # needed with low_res
    output_shape: tuple[Positive, Positive, Positive] | None = None  # (C, H, W), without low_res
    respaced_timestep_spacing: Positive | None = None  # how many timesteps are visited; None is all
    use_ddim: bool = False  # needs 'respaced_timestep_spacing', such that the timesteps have one distance
    ddim_eta: Annotated[float, Ge(0)] = 0.0  # 0 draws noise only at the start, 1 as much as without 'use_ddim'
    use_ema: bool = False  # calls the average of 'generator'
    noise_type: Literal["random", "zero", "fixed"] = "random"  # what sampling starts from; fixed is always the same
    undo_n1_to_1: bool = False  # brings the images to [0, 1]

    def check(self) -> None:
        """Refuse options that exclude or need one another; let `use_ema` name the average."""
        if {"spectrogram", "discrete_spectrogram"} & self.model_input_keys.keys():
            raise ValueError("'model_input_keys' has a spectrogram; audio is not supported")
        if ("low_res" in self.model_input_keys) != (self.output_scale_factor is not None):
            raise ValueError("'output_scale_factor' and 'low_res' among 'model_input_keys' need one another")
        if (self.output_shape is None) == (self.output_scale_factor is None):
            raise ValueError("'output_shape' is for sampling without 'low_res', where it is needed")
        if self.output_shape is not None and self.output_batch_size is None:
            raise ValueError("'output_batch_size' is missing; without 'low_res' nothing says how many samples to draw")
        if self.ddim_eta and not self.use_ddim:
            raise ValueError("'ddim_eta' is for DDIM; write 'use_ddim: true' too")
        self.kept()
        if self.use_ema and not self.generator.endswith(".ema"):
            self.generator += ".ema"

    def kept(self) -> list[int]:
        """The timesteps that are visited; a `ValueError` if there are none such."""
        count, kept = self.beta_schedule.num_diffusion_timesteps, self.respaced_timestep_spacing
        if kept is not None and kept > count:
            raise ValueError(f"'respaced_timestep_spacing' {kept} is more than there are timesteps, {count}")
        if self.use_ddim and kept is None:
            raise ValueError("'use_ddim' needs 'respaced_timestep_spacing', the number of timesteps to visit")
        return with_stride(count, kept or count) if self.use_ddim else evenly(count, kept or count)

    def setup(self) -> None:
        """Compute the coefficients of the timesteps that are visited."""
        self.diffusion = Diffusion(self.beta_schedule, self.diffusion_args, self.kept())

    @torch.no_grad()
    def forward(self, generator: nn.Module, model_input_keys: dict[str, Any]) -> Tensor:
        inputs = {keyword: self.first(value) for keyword, value in model_input_keys.items()}
        noise = self.noise(generator, inputs.get("low_res"))

        def asked(x: Tensor, t: Tensor) -> Estimate:
            return self.asked(generator, x, t, inputs)

        with evaluating(generator):
            images = self.sample(asked, noise)
        return (images + 1) / 2 if self.undo_n1_to_1 else images

    def sample(self, asked: Asked, noise: Tensor) -> Tensor:
        """Images that sampling ends with."""
        if self.use_ddim:
            return ddim(self.diffusion, asked, noise, self.ddim_eta)
        return ancestral(self.diffusion, asked, noise)

    def first(self, value: Any) -> Any:
        """Of a tensor as many samples as are to be drawn, anything else as it is."""
        return value[: self.output_batch_size] if isinstance(value, Tensor) and value.ndim else value

    def noise(self, generator: nn.Module, low_res: Tensor | None) -> Tensor:
        """What sampling starts from, (B, C, H, W)."""
        if low_res is None:
            like = widen(next(generator.parameters()))
            shape = (self.output_batch_size or 1, *(self.output_shape or ()))
        else:
            like, factor = widen(low_res), self.output_scale_factor or 1
            *front, height, width = low_res.shape
            shape = (*front, height * factor, width * factor)
        if self.noise_type == "zero":
            return like.new_zeros(shape)
        if self.noise_type == "fixed":  # and the same on every device
            seeded = torch.Generator().manual_seed(SEED_OF_FIXED_NOISE)
            return torch.randn(shape, generator=seeded, dtype=like.dtype).to(like.device)
        return torch.randn(shape, dtype=like.dtype, device=like.device)

    def asked(self, generator: nn.Module, x: Tensor, t: Tensor, inputs: dict[str, Any]) -> Estimate:
        """What the network makes of x_t at timesteps (B,)."""
        prediction, variance = self.answer(generator, x, t, inputs)
        if self.diffusion_args.conditioning_free:
            free, _ = self.answer(generator, x, t, {**inputs, "conditioning_free": True})
            prediction = prediction + self.strength(t, x) * (prediction - free)
        return self.diffusion.estimate(prediction, variance, x, t, clip=True)

    def answer(
        self, generator: nn.Module, x: Tensor, t: Tensor, inputs: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """What the network predicts, and what it says of the variance."""
        output = self.diffusion.ask(generator, x, t, inputs)
        output = output[0] if isinstance(output, tuple | list) else output
        return self.diffusion.split(widen(output).to(x.dtype), x)

    def strength(self, t: Tensor, x: Tensor) -> Tensor:
        """How far to go on beyond the prediction, (B, 1, 1, 1)."""
        strength = torch.full_like(t, 1, dtype=x.dtype) * self.diffusion_args.conditioning_free_k
        if self.diffusion_args.ramp_conditioning_free:
            strength = strength * (1 - self.diffusion.original[t] / self.diffusion.num_original)
        return strength.reshape(-1, 1, 1, 1)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within it, a network with all that is in it is in eval mode; afterwards as it was."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
