"""Gaussian diffusion: how images turn into noise, and what a network's output says of the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.injectors._gaussians import bits, discretised_nll, gaussian_kl
from gradloom.injectors._noise_schedules import BetaSchedule

STEPS_THAT_NETWORKS_KNOW = 1000  # of `rescale_timesteps`


@dataclass(frozen=True)
class DiffusionArgs:
    """What a network predicts, and how it is taught and asked.

    `model_mean_type` is the noise (epsilon), the image (start_x), or the mean of the timestep before (previous_x).
    With `learned` the second half of its channels is the logarithm of the variance, with `learned_range` v in [-1, 1]
    between the two bounds that it has (arXiv 2102.09672, equation 15); fixed_small and fixed_large are these bounds.
    """

    model_mean_type: Literal["epsilon", "start_x", "previous_x"]
    model_var_type: Literal["learned", "fixed_small", "fixed_large", "learned_range"]
    loss_type: Literal["mse", "rescaled_mse", "kl", "rescaled_kl"] = "mse"  # what training goes by
    rescale_timesteps: bool = False  # the network is told of timesteps as if there were 1000
    conditioning_free: bool = False  # sampling leans away from what the network says without its condition
    conditioning_free_k: float = 1.0  # how far
    ramp_conditioning_free: bool = True  # not at all at first, so far at the last timestep

    @property
    def learns_variance(self) -> bool:
        """Whether the network returns two channels for each."""
        return self.model_var_type.startswith("learned")


@dataclass(frozen=True)
class Estimate:
    """What a network's output amounts to: the image, and mean and log variance of the timestep before."""

    x_start: Tensor
    mean: Tensor
    log_variance: Tensor


class Diffusion(nn.Module):
    """The chain q of Ho et al. 2020 (arXiv 2006.11239) over the `kept` timesteps of a schedule, all by default.

    Images x are (B, C, ...) in [-1, 1], timesteps t (B,) count from 0, the least noisy one, among those kept. All that
    depends on t is computed once in float64 and lies on the device in float32.
    """

    rounded: Tensor
    original: Tensor

    def __init__(self, schedule: BetaSchedule, args: DiffusionArgs, kept: Sequence[int] | None = None) -> None:
        super().__init__()
        self.args, self.num_original = args, schedule.num_diffusion_timesteps
        kept = list(range(self.num_original)) if kept is None else list(kept)
        self.exact = _table(torch.cumprod(1 - schedule.betas(), 0)[kept])
        self.register_buffer("rounded", self.exact.float(), persistent=False)
        self.register_buffer("original", torch.tensor(kept), persistent=False)

    def __len__(self) -> int:
        """How many timesteps there are."""
        return self.exact.shape[1]

    def at(self, name: str, t: Tensor, x: Tensor) -> Tensor:
        """A coefficient at timesteps (B,), shaped to multiply x (B, ...)."""
        table = self.exact.to(x.device) if x.dtype == torch.float64 else self.rounded
        return table[_COEFFICIENTS.index(name)][t].reshape(-1, *[1] * (x.ndim - 1))

    def noised(self, x_start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t from q(x_t | x_0) with standard noise of the same shape (equation 4)."""
        return self.at("image", t, x_start) * x_start + self.at("noise", t, x_start) * noise

    def posterior_mean(self, x_start: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The mean of q(x_{t-1} | x_t, x_0) (equation 7); its log variance is that of fixed_small."""
        return self.at("mean_of_start", t, x_t) * x_start + self.at("mean_of_x", t, x_t) * x_t

    def ask(self, network: nn.Module, x_t: Tensor, t: Tensor, inputs: dict[str, Any]) -> Any:
        """Call the network, which is told of the timesteps of the whole schedule."""
        known = self.original[t]
        if self.args.rescale_timesteps:
            return network(x_t, known.to(x_t.dtype) * (STEPS_THAT_NETWORKS_KNOW / self.num_original), **inputs)
        return network(x_t, known, **inputs)

    def split(self, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part a network's output into its prediction and what it says of the variance; raises `RunError`."""
        count = x.shape[1] * (2 if self.args.learns_variance else 1)
        if output.shape != (len(x), count, *x.shape[2:]):
            expected, got = (len(x), count, *x.shape[2:]), tuple(output.shape)
            raise RunError(f"model_var_type {self.args.model_var_type}: the network must return {expected}, got {got}")
        prediction = output[:, : x.shape[1]]
        return prediction, output[:, x.shape[1] :] if self.args.learns_variance else None

    def estimate(
        self, prediction: Tensor, variance: Tensor | None, x_t: Tensor, t: Tensor, clip: bool = False
    ) -> Estimate:
        """Say where a prediction leads; `clip` keeps the image it means in [-1, 1]."""
        x_start = self.start(prediction, x_t, t)
        x_start = x_start.clamp(-1, 1) if clip else x_start
        means = self.args.model_mean_type == "previous_x"
        mean = prediction if means else self.posterior_mean(x_start, x_t, t)
        return Estimate(x_start, mean, self.log_variance(variance, x_t, t))

    def start(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The image that a prediction means."""
        match self.args.model_mean_type:
            case "start_x":
                return prediction
            case "epsilon":
                return (x_t - self.at("noise", t, x_t) * prediction) / self.at("image", t, x_t)
            case "previous_x":
                return (prediction - self.at("mean_of_x", t, x_t) * x_t) / self.at("mean_of_start", t, x_t)

    def target(self, x_start: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What a network ought to predict."""
        match self.args.model_mean_type:
            case "start_x":
                return x_start
            case "epsilon":
                return noise
            case "previous_x":
                return self.posterior_mean(x_start, x_t, t)

    def log_variance(self, values: Tensor | None, x: Tensor, t: Tensor) -> Tensor:
        """The log variance of p(x_{t-1} | x_t), given what the network says of it."""
        smallest, largest = self.at("log_smallest", t, x), self.at("log_largest", t, x)
        if values is None:
            largest = self.at("log_largest_with_first", t, x)
            return (smallest if self.args.model_var_type == "fixed_small" else largest).expand_as(x)
        if self.args.model_var_type == "learned":
            return values
        share = (values + 1) / 2
        return share * largest + (1 - share) * smallest

    def bound(self, estimate: Estimate, x_start: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The terms of the variational bound, in bits for each element (equation 5): L_0 where t is 0, else L_t."""
        smallest = self.at("log_smallest", t, x_t).expand_as(x_t)
        mean = self.posterior_mean(x_start, x_t, t)
        divergence = gaussian_kl(mean, smallest, estimate.mean, estimate.log_variance)
        last = discretised_nll(x_start, estimate.mean, estimate.log_variance)
        return bits(torch.where((t == 0).reshape(-1, *[1] * (x_t.ndim - 1)), last, divergence))


_COEFFICIENTS = (
    "image", "noise", "mean_of_start", "mean_of_x", "log_smallest", "log_largest", "log_largest_with_first",
    "left", "left_before",
)  # fmt: skip


def _table(left: Tensor) -> Tensor:
    """All coefficients, in the order of their names, of the shares of variance (T,) that timesteps leave."""
    before = torch.cat([left.new_ones(1), left[:-1]])
    betas = 1 - left / before
    posterior = betas * (1 - before) / (1 - left)
    second = posterior[1:2] if len(left) > 1 else betas  # the first is 0, and has no logarithm
    coefficients = {
        "image": left.sqrt(),
        "noise": (1 - left).sqrt(),
        "mean_of_start": before.sqrt() * betas / (1 - left),
        "mean_of_x": (1 - betas).sqrt() * (1 - before) / (1 - left),
        "log_smallest": torch.cat([second, posterior[1:]]).log(),
        "log_largest": betas.log(),
        "log_largest_with_first": torch.cat([second, betas[1:]]).log(),
        "left": left,
        "left_before": before,
    }
    return torch.stack([coefficients[name] for name in _COEFFICIENTS])
