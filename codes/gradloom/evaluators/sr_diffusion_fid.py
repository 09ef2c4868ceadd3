"""Frechet Inception distance of images that a diffusion enlarges."""

from dataclasses import fields
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor, nn

from gradloom.evaluators._moments_of_features import MomentsOfFeatures
from gradloom.parts import DatasetChoice, Injector, Inner, Read, Shown

Positive = Annotated[int, Gt(0)]


class SrDiffusionFid(MomentsOfFeatures, type="sr_diffusion_fid"):
    """Measures how far what `diffusion_params` draws is from the images of a dataset of its own, as `fid` does.

    `diffusion_params` is a `gaussian_diffusion_inference`, which reads the keys of that dataset. The images drawn are
    brought to the `range` of the dataset's, if it brings them to [0, 1]; what it writes is nobody else's. Without a
    `dataset` the validation set is drawn. The ancestor compared with the files of the dataset's folder, of any size.
    """

    uses_range: ClassVar[bool] = True

    dataset: DatasetChoice | None = None  # measured instead of datasets.val
    batch_size: Positive = 1  # samples of it that are drawn at a time
    diffusion_params: Injector
    real: Read = "hq"
    range: tuple[float, float] = (-1.0, 1.0)  # of the images' values
    fid_batch_size: Positive = 64  # images that Inception looks at together

    def check(self) -> None:
        """Refuse a part that draws nothing, and a number of samples where they are not its own."""
        super().check()
        if self.diffusion_params.type_name != "gaussian_diffusion_inference":
            kind = self.diffusion_params.type_name
            raise ValueError(f"'diffusion_params' has the type gaussian_diffusion_inference, not {kind}")
        if self.dataset is None and self.batch_size != 1:
            raise ValueError("'batch_size' is that of a 'dataset' here; without one, datasets.val has it")

    def looks_at(self) -> Shown | None:
        """Its own dataset, if it has one."""
        return None if self.dataset is None else Shown(self.dataset, self.batch_size, "dataset")

    def forward(self, real: Tensor, diffusion_params: Inner, network: nn.Module | None) -> dict[str, Tensor]:
        """Return the features of what is drawn of a batch, and of the batch's images."""
        fake = diffusion_params()
        if self.drawn_in_unit():
            fake = self.range[0] + fake * (self.range[1] - self.range[0])
        return {port: self.in_portions(images, network) for port, images in {"fake": fake, "real": real}.items()}

    def protocol(self) -> str:
        """Whose features, of how many images, and which network drew them."""
        return f"{super().protocol()}, drawn by {', '.join(self.diffusion_params.networks())}"

    def in_portions(self, images: Tensor, network: nn.Module | None) -> Tensor:
        """The features of images, of which only so many are looked at together."""
        return torch.cat([self.describe(portion, network) for portion in torch.split(images, self.fid_batch_size)])

    def drawn_in_unit(self) -> bool:
        """Whether what is drawn is in [0, 1]."""
        options = {field.name: getattr(self.diffusion_params, field.name) for field in fields(self.diffusion_params)}
        return bool(options["undo_n1_to_1"])
