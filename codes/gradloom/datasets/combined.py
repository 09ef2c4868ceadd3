"""Samples of several datasets side by side."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import Dataset

from gradloom.parts import DatasetChoice, datasets


@datasets.register("combined")
class Combined(Dataset[dict[str, Tensor]]):
    """What several datasets hold, under `<name>_<key>`; what that called `default` holds, under its own keys.

    Each name stands for a dataset with options of its own, `scale` among them, which the ancestor wrote into all:

        train: {mode: combined, default: {mode: photos}, noise: {mode: random_dataset, hq_shape: [1, 8, 8]}}

    There are as many samples as the longest has; the others begin again.
    """

    def __init__(self, **datasets: DatasetChoice) -> None:
        if not datasets:
            raise ValueError("it combines no datasets; write some, such as default: {mode: imagefolder, paths: ...}")
        self.datasets: dict[str, Any] = {name: choice.build() for name, choice in datasets.items()}
        self.lengths = {name: len(dataset) for name, dataset in self.datasets.items()}

    @classmethod
    def keys(cls, **datasets: DatasetChoice) -> tuple[str, ...] | None:
        """What a sample holds; None where one of the datasets does not say."""
        told = {name: choice.keys for name, choice in datasets.items()}
        if None in told.values():
            return None
        return tuple(_under(name, key) for name, keys in told.items() for key in keys or ())

    def __len__(self) -> int:
        return max(self.lengths.values())

    def name_of(self, index: int) -> str:
        """The samples that are put together, for messages."""
        told = {name: each for name, each in self.datasets.items() if isinstance(each, _Named)}
        return ", ".join(each.name_of(index % self.lengths[name]) for name, each in told.items()) or str(index)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = range(len(self))[index]
        samples: dict[str, Mapping[str, Tensor]] = {
            name: dataset[index % self.lengths[name]] for name, dataset in self.datasets.items()
        }
        return {_under(name, key): value for name, sample in samples.items() for key, value in sample.items()}


@runtime_checkable
class _Named(Protocol):
    """A dataset that has a name for each sample."""

    def name_of(self, index: int) -> str: ...


def _under(name: str, key: str) -> str:
    return key if name == "default" else f"{name}_{key}"
