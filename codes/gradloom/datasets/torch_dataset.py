"""Classified images as torchvision reads them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torchvision.datasets
from annotated_types import Ge
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from gradloom.datasets._normalizing import normalized
from gradloom.datasets._smaller import Positive
from gradloom.errors import RunError
from gradloom.parts import datasets

_CLASSES: dict[str, Callable[..., Any]] = {
    "mnist": torchvision.datasets.MNIST,
    "fmnist": torchvision.datasets.FashionMNIST,
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
    "imagenet": torchvision.datasets.ImageNet,
    "imagefolder": torchvision.datasets.ImageFolder,
}


@datasets.register("torch_dataset")
@dataclass(eq=False)
class TorchDataset(Dataset[dict[str, Tensor]]):
    """One of torchvision's datasets: `hq` of (3, image_size, image_size), the same as `lq`, and `labels`, int64 of ().

    Normalised by ImageNet's mean and deviation, and mirrored every other time. The shorter side is resized and the
    middle cut out; or with `random_crop` a part by chance. torchvision tells no coarse labels of CIFAR-100, so there
    are none. Grey images have three equal channels.
    """

    dataset: Literal["mnist", "fmnist", "cifar10", "cifar100", "imagenet", "imagefolder"]  # a folder for each class
    image_size: Positive
    kwargs: dict[str, Any] = field(default_factory=dict)  # for torchvision's class: root, train, download, ...
    random_crop: bool = False  # 8 to 100 % of the area, as ImageNet's classifiers are trained
    fixed_len: Positive | None = None  # how many samples there are, those left out by `offset` among them
    offset: Annotated[int, Ge(0)] = 0  # so many samples at the beginning are left out

    keys = ("hq", "lq", "labels")

    def __post_init__(self) -> None:
        try:
            self.source = _CLASSES[self.dataset](**self.kwargs)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise RunError(f"torchvision cannot make {self.dataset} of 'kwargs': {error}") from error
        self.length = (self.fixed_len or len(self.source)) - self.offset
        if self.length < 1 or self.length + self.offset > len(self.source):
            raise ValueError(
                f"'fixed_len' and 'offset' leave {self.length} of the {len(self.source)} samples there are"
            )
        size = self.image_size
        cut = [v2.RandomResizedCrop(size)] if self.random_crop else [v2.Resize(size), v2.CenterCrop(size)]
        self.transform = v2.Compose([*cut, v2.RandomHorizontalFlip(), v2.PILToTensor()])

    def __len__(self) -> int:
        return self.length

    def name_of(self, index: int) -> str:
        """The number of a sample, and its file where there is one."""
        number = range(self.length)[index] + self.offset
        samples = self.source.samples if isinstance(self.source, torchvision.datasets.ImageFolder) else []
        return str(Path(samples[number][0])) if samples else f"{self.dataset} {number}"

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, label = self._read(range(self.length)[index] + self.offset)
        pixels = self.transform(image.convert("RGB")).float() / 255
        image = normalized(pixels, "imagenet")
        return {"hq": image, "lq": image, "labels": torch.tensor(label)}

    def _read(self, number: int) -> tuple[Any, int]:
        try:
            image, label = self.source[number]
        except (OSError, Image.DecompressionBombError, SyntaxError) as error:
            raise RunError(f"{self.dataset} {number} cannot be read ({error})") from error
        return image, int(label)
