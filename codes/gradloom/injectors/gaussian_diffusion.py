"""How well a network finds the way back from noise to images."""

from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.injectors._channels import balanced, restricted
from gradloom.injectors._diffusion import Diffusion, DiffusionArgs
from gradloom.injectors._noise_schedules import BetaSchedule
from gradloom.injectors._timesteps import BySecondMoment, Uniform, spread
from gradloom.parts import Arguments, Injector, Net, Read, Write, widen

Positive = Annotated[int, Gt(0)]


class GaussianDiffusion(Injector, type="gaussian_diffusion"):
    """Adds noise to images as much as random timesteps say, lets a network take it off, and writes what that costs.

    After Ho et al. 2020 (arXiv 2006.11239) and Nichol and Dhariwal 2021 (arXiv 2102.09672). Images `in` are (B, C, ...)
    in [-1, 1]. The network is called with the noisy images, their timesteps (B,) and `model_input_keys`, and returns
    its prediction (B, C, ...), with a learned variance (B, 2C, ...), or a tuple that begins with it. By `loss_type`

        mse                 out is each sample's mean squared error (B,); vb the terms of the variational bound,
                            (B, C, ...) in bits, from which the variance learns and the prediction does not
        rescaled_mse        the same; vb is multiplied by T / 1000
        kl, rescaled_kl     out is each sample's mean of these terms, or T times that; vb the terms, without a gradient

    A fixed variance leaves the bound a measure without a gradient. x_start, the image that the network means, is as it
    comes, in no range. With `sampler_type: loss-second-moment`, out and vb are weighed by how likely timesteps were.

    While the network is in eval mode, timesteps are spread evenly over the batch from a random one on. Differs from the
    ancestor: vb is right for any number of samples and for fixed variances, start_x and previous_x work, the weights of
    loss-second-moment are applied, and samples in eval mode are not all of the lowest timesteps.
    """

    generator: Net
    in_: Read
    beta_schedule: BetaSchedule
    diffusion_args: DiffusionArgs
    sampler_type: Literal["uniform", "loss-second-moment"]  # how timesteps are drawn
    model_input_keys: dict[str, Arguments] = field(default_factory=dict)  # state keys or constants, by keyword
    out: Write
    out_key_vb_loss: Write | None = None  # the terms of the variational bound
    out_key_x_start: Write | None = None  # the images that the network means
    out_key_upper_quantile_mse_loss: Write | None = None  # the mean of out over the last quarter of timesteps
    out_key_mid_upper_quantile_mse_loss: Write | None = None  # that over the third quarter
    out_key_sampler_warmed_up: Write | None = None  # 1 once all timesteps have losses that loss-second-moment goes by
    extra_model_output_keys: tuple[Write, ...] = ()  # for what the network returns beside its prediction
    deterministic_timesteps_every: Annotated[int, Ge(0)] = 0  # iterations whose timesteps are spread evenly; 0 is none
    deterministic_sampler_expected_batch_size: Positive | None = None  # samples to spread them over; a micro-batch's
    causal_mode: bool = False  # refused: it is for sequences
    causal_slope_range: tuple[float, float] | None = None  # refused: it is for sequences
    preprocess_fn: str | None = None  # a method of the network that is called with (images, timesteps, diffusion)
    channel_balancer_proportion: Annotated[float, Gt(0)] | None = None  # leave channels out, those with small errors
    channel_restriction_low: Annotated[int, Ge(0)] | None = None  # only errors of the channels from this one on count
    channel_restriction_high: Annotated[int, Gt(0)] | None = None  # and up to this one, which does not

    def check(self) -> None:
        """Refuse what is for sequences or for sampling, and halves of options."""
        if self.causal_mode or self.causal_slope_range is not None:
            option = "causal_mode" if self.causal_mode else "causal_slope_range"
            raise ValueError(f"{option!r} is for sequences such as audio, in which noise grows with time; remove it")
        if self.diffusion_args.conditioning_free:
            raise ValueError("'diffusion_args' has 'conditioning_free', which is for gaussian_diffusion_inference")
        low, high = self.channel_restriction_low, self.channel_restriction_high
        if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
            raise ValueError("'channel_restriction_low' has to be below 'channel_restriction_high'; write both")
        if low is not None and self.channel_balancer_proportion is not None:
            raise ValueError("'channel_balancer_proportion' is there with 'channel_restriction_low'; keep one of them")
        alone = "mse" in self.diffusion_args.loss_type and self.diffusion_args.learns_variance
        if alone and self.out_key_vb_loss is None:
            raise ValueError(
                f"'out_key_vb_loss' is what a variance that is {self.diffusion_args.model_var_type} learns from; "
                "write a key, and a loss 'direct' of it"
            )

    def setup(self) -> None:
        """Compute the schedule's coefficients, and make room for what timesteps have cost."""
        self.diffusion = Diffusion(self.beta_schedule, self.diffusion_args)
        self.sampler = (Uniform if self.sampler_type == "uniform" else BySecondMoment)(len(self.diffusion))
        self.iteration, self.passed = 0, 0

    @property
    def scheduled(self) -> bool:
        """Whether it has to be told the iteration."""
        return super().scheduled or self.deterministic_timesteps_every > 0

    def advance(self, iteration: int, iterations_per_epoch: int) -> None:
        """Take note of the iteration, of which no sample has passed yet."""
        super().advance(iteration, iterations_per_epoch)
        self.iteration, self.passed = iteration, 0

    def scheduled_values(self) -> Iterator[Any]:
        """Whether timesteps are spread evenly now, and what options have now."""
        yield self.deterministic
        yield from super().scheduled_values()

    @property
    def deterministic(self) -> bool:
        """Whether the timesteps of the iteration are spread evenly."""
        every = self.deterministic_timesteps_every
        return every > 0 and self.iteration % every == 0

    def forward(self, generator: nn.Module, in_: Tensor, model_input_keys: dict[str, Any]) -> tuple[Any, ...]:
        images = widen(in_)
        t, weights = self.timesteps(images, generator.training)
        if self.preprocess_fn is not None:
            images = getattr(generator, self.preprocess_fn)(images, t, self.diffusion)
        noise = torch.randn_like(images)
        x_t = self.diffusion.noised(images, t, noise)
        answer = self.diffusion.ask(generator, x_t, t, model_input_keys)
        output, extra = (answer[0], tuple(answer[1:])) if isinstance(answer, tuple | list) else (answer, ())
        self.check_extra(extra)
        prediction, variance = self.diffusion.split(widen(output).to(images.dtype), images)
        costs, bound = self.costs(images, x_t, t, noise, prediction, variance)
        if generator.training and torch.is_grad_enabled():
            self.sampler.learn(t, costs.detach() if self.by_bound else costs.detach() + _each(bound.detach()))
        if weights is not None:
            costs, bound = costs * weights.to(costs), bound * _like(weights.to(bound), bound)
        found = {
            "out": costs,
            "out_key_vb_loss": bound,
            "out_key_x_start": self.diffusion.start(prediction, x_t, t),
            "out_key_upper_quantile_mse_loss": _quarter(costs, t, len(self.diffusion), 3),
            "out_key_mid_upper_quantile_mse_loss": _quarter(costs, t, len(self.diffusion), 2),
            "out_key_sampler_warmed_up": self.sampler.warmed_up().to(costs),
        }
        return (*(value for option, value in found.items() if getattr(self, option) is not None), *extra)

    @property
    def by_bound(self) -> bool:
        """Whether the network learns from the variational bound alone."""
        return self.diffusion_args.loss_type in ("kl", "rescaled_kl")

    def timesteps(self, images: Tensor, training: bool) -> tuple[Tensor, Tensor | None]:
        """Timesteps (B,), and what their costs are to be multiplied by, if anything."""
        size, count = len(images), len(self.diffusion)
        over = self.deterministic_sampler_expected_batch_size
        if not training:
            first = torch.randint(count, (), device=images.device)
            return (spread(size, count, over or size, 0, images.device) + first) % count, None
        if self.deterministic:
            start, self.passed = self.passed, self.passed + size
            return spread(size, count, over or size, start if over else 0, images.device), None
        return self.sampler.draw(size, images.device)

    def costs(
        self, images: Tensor, x_t: Tensor, t: Tensor, noise: Tensor, prediction: Tensor, variance: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What a prediction costs each sample (B,), and the terms of the variational bound (B, C, ...)."""
        errors = (self.diffusion.target(images, x_t, t, noise) - prediction).square()
        believed = prediction if self.by_bound else prediction.detach()
        bound = self.diffusion.bound(self.diffusion.estimate(believed, variance, x_t, t), images, x_t, t)
        if (mask := self.mask(errors)) is not None:
            errors, bound = errors * mask, bound * mask
        count = len(self.diffusion)
        match self.diffusion_args.loss_type:
            case "mse":
                return _each(errors), bound
            case "rescaled_mse":
                return _each(errors), bound * (count / 1000)
            case "kl":
                return _each(bound), bound.detach()
            case "rescaled_kl":
                return _each(bound) * count, bound.detach()

    def mask(self, errors: Tensor) -> Tensor | None:
        """Which channels count, if not all."""
        if self.channel_balancer_proportion is not None:
            return balanced(errors, self.channel_balancer_proportion)
        if self.channel_restriction_low is None or self.channel_restriction_high is None:
            return None
        return restricted(errors, self.channel_restriction_low, self.channel_restriction_high)

    def check_extra(self, extra: tuple[Any, ...]) -> None:
        """Raise a `RunError` unless each thing that the network returns beside its prediction has a key."""
        if self.extra_model_output_keys and len(extra) != len(self.extra_model_output_keys):
            names = ", ".join(self.extra_model_output_keys)
            raise RunError(f"extra_model_output_keys: {names} stand for {len(extra)} things that the network returned")


def _each(values: Tensor) -> Tensor:
    """The mean of each sample, (B,)."""
    return values.flatten(1).mean(1)


def _like(values: Tensor, x: Tensor) -> Tensor:
    """Values (B,) shaped to multiply x (B, ...)."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def _quarter(costs: Tensor, t: Tensor, count: int, quarter: int) -> Tensor:
    """The mean cost of a quarter of the timesteps: four times the mean over all, of which the others' are left out.

    So means over micro-batches and iterations are right too, in which few samples, or none, are of that quarter.
    """
    return 4 * (costs.detach() * (t * 4 // count == quarter)).mean()
