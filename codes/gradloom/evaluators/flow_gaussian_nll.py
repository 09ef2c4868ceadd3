"""How Gaussian the latents are that a flow finds for images."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.evaluators._scores import Scores, precise
from gradloom.parts import DatasetChoice, Evaluator, Net, Read, Shown


class FlowGaussianNll(Evaluator, type="flow_gaussian_nll"):
    """Measures a flow such as `srflow` by its latents of images, which are to be samples of a standard Gaussian.

    The network is called with each `hq` and `lq` of `dataset`, without noise, and returns a list of latents first.
    `gaussian_diff`, in nats, is the mean over samples and latents of the logarithm of a latent's density under that
    Gaussian. Since it depends on the images' size there is `surplus` too: how much likelier the latents are than
    samples of the Gaussian would be, for each of their numbers; 0 for a perfect flow, below 0 for latents that are
    too large. The ancestor gave a smaller last batch as much weight as the others.
    """

    for_: Net | None = None  # the flow, such as `generator.ema`
    batch_size: Annotated[int, Gt(0)]  # images at a time
    dataset: DatasetChoice  # measured instead of datasets.val; with a batch_size above 1, its images have one size
    hq: Read = "hq"
    lq: Read = "lq"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def check(self) -> None:
        """Refuse to measure no network in particular."""
        if self.for_ is None:
            raise ValueError("option 'for' is missing; write the name of the flow, such as 'generator.ema'")

    def looks_at(self) -> Shown:
        """The dataset."""
        return Shown(self.dataset, self.batch_size, "dataset")

    def reset(self) -> None:
        """Forget all images."""
        self.scores = {"gaussian_diff": Scores(self.type_name), "surplus": Scores(self.type_name)}

    def forward(self, hq: Tensor, lq: Tensor, for_: nn.Module) -> dict[str, Tensor]:
        """Return what is found of each image of a batch, (B,)."""
        latents: Any = for_(hq, lq, add_gt_noise=False)[0]
        if not isinstance(latents, list | tuple):
            raise RunError(f"{self.type_name}: {self.for_!r} returned no list of latents first")
        return _look([precise(latent).flatten(1) for latent in latents])

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Take in what was found in a batch."""
        for name, values in found.items():
            self.scores[name].add(values)

    def compute(self) -> Mapping[str, float]:
        """The means over all images."""
        return {name: scores.mean() for name, scores in self.scores.items()}

    def protocol(self) -> str:
        """Of how many images."""
        return f"log density of latents under a standard Gaussian: mean over {self.scores['surplus'].count} images"


def _look(latents: list[Tensor]) -> dict[str, Tensor]:
    """The mean log density of latents (B, n) each, and what they have too much of it for each number, (B,)."""
    densities = [-0.5 * (latent.square() + math.log(2 * math.pi)).sum(1) for latent in latents]
    surplus = 0.5 * (1 - torch.cat(latents, 1).square().mean(1))
    return {"gaussian_diff": torch.stack(densities).mean(0), "surplus": surplus}
