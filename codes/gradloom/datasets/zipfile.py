"""Images in a zip file, which is read without being unpacked."""

import os
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from gradloom.datasets._image_files import EXTENSIONS, decode
from gradloom.datasets._normalizing import normalized
from gradloom.datasets._smaller import Positive
from gradloom.errors import RunError
from gradloom.parts import datasets


@datasets.register("zipfile")
@dataclass(eq=False)
class ZipFile(Dataset[dict[str, Tensor]]):
    """Images of a zip file: `hq` of (3, resolution, resolution), normalised by ImageNet's mean and deviation.

    The shorter side is resized to `resolution`, and the middle cut out. With `paired_mode` there is `alt_hq`, for
    `x0.jpg` what is in `x1.jpg` and the other way round, and `has_alt`, which is true. An image that is broken, or
    whose other is missing, is a `RunError`; the ancestor took the next one, for ever.
    """

    path: Path  # the zip file
    resolution: Positive
    paired_mode: bool = False  # with each image's other one

    def __post_init__(self) -> None:
        self._open: tuple[int, zipfile.ZipFile] | None = None
        self.names = sorted(info.filename for info in self._zip().infolist() if _is_image(info))
        if not self.names:
            raise RunError(f"{self.path} holds no images; looked for {', '.join(sorted(EXTENSIONS))}")

    @classmethod
    def keys(cls, paired_mode: bool = False, **_: object) -> tuple[str, ...]:
        """What a sample holds."""
        return ("hq", "alt_hq", "has_alt") if paired_mode else ("hq",)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}

    def __len__(self) -> int:
        return len(self.names)

    def name_of(self, index: int) -> str:
        """The file of a sample, for messages."""
        return f"{self.path}/{self.names[index]}"

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        name = self.names[index]
        sample = {"hq": self._image(name)}
        if self.paired_mode:
            sample |= {"alt_hq": self._image(other_name(name)), "has_alt": torch.tensor(True)}
        return sample

    def _image(self, name: str) -> Tensor:
        try:
            content = self._zip().read(name)
        except Exception as error:  # those of zipfile, of any compression, and of what is encrypted
            raise RunError(f"{self.path} has no readable {name} ({error})") from error
        image = F.resize(decode(BytesIO(content), f"{self.path}/{name}"), [self.resolution])
        return normalized(F.center_crop(image, [self.resolution]), "imagenet")

    def _zip(self) -> zipfile.ZipFile:
        """The file, opened once in each process, as processes cannot share a place in it."""
        if self._open is None or self._open[0] != os.getpid():
            if not self.path.is_file():
                raise RunError(f"there is no file {self.path}")
            try:
                self._open = os.getpid(), zipfile.ZipFile(self.path)
            except (OSError, zipfile.BadZipFile) as error:
                raise RunError(f"{self.path} cannot be read as a zip file ({error})") from error
        return self._open[1]


def _is_image(info: zipfile.ZipInfo) -> bool:
    """Whether this is a file named like an image; names that start with a dot are of no images, as in folders."""
    path = PurePosixPath(info.filename)
    return not info.is_dir() and path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def other_name(name: str) -> str:
    """The other of a pair: the last digit before the ending, 0 or 1, is the other way round."""
    path = PurePosixPath(name)
    last = {"0": "1", "1": "0"}.get(path.stem[-1:])
    if last is None:
        raise RunError(f"{name} is of no pair; with paired_mode names end in 0 or 1, such as 00170.jpg")
    return str(path.with_name(path.stem[:-1] + last + path.suffix))
