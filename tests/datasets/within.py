"""Datasets to put others around, for tests."""

import torch
from torch.utils.data import Dataset

from gradloom.parts import DatasetChoice


class Pictures(Dataset):
    """Coloured noise in [0, 1], the same each time; `lq` is `hq` upside down."""

    keys = ("hq", "lq", "label", "labels_mask", "path")

    def __init__(self, size=16, length=6, shift=0.0, **_):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(length, 3, size, size, generator=generator) + shift
        self.masks = torch.randint(9, (length, 1, size, size), generator=generator)

    def __len__(self):
        return len(self.images)

    def name_of(self, index):
        return f"picture {index}"

    def __getitem__(self, index):
        image = self.images[index]
        return {"hq": image, "lq": image.flip(-2), "label": index, "labels_mask": self.masks[index], "path": "a.png"}


def pictures(make=Pictures, **options):
    return DatasetChoice("pictures", make, options)
