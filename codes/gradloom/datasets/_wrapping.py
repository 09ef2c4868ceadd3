"""What datasets around another dataset have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import Dataset

from gradloom.parts import DatasetChoice


@runtime_checkable
class Named(Protocol):
    """A dataset that has names for its samples."""

    def name_of(self, index: int) -> str:
        """The name of a sample, for messages."""
        ...


class Wrapping(Dataset[dict[str, Any]]):
    """As long as the dataset within, with its keys and names of samples, and keys of its own."""

    adds: ClassVar[tuple[str, ...]]

    def __init__(self, dataset: DatasetChoice) -> None:
        self.within: Dataset[Any] = dataset.build()

    @classmethod
    def keys(cls, dataset: DatasetChoice, **_: object) -> tuple[str, ...] | None:
        """What a sample holds, if the dataset within says it."""
        return None if dataset.keys is None else tuple(dict.fromkeys((*dataset.keys, *cls.adds)))

    def __len__(self) -> int:
        return len(self.within)  # type: ignore[arg-type]

    def name_of(self, index: int) -> str:
        """What the dataset within calls a sample, or its index."""
        return self.within.name_of(index) if isinstance(self.within, Named) else str(index)

    def drawn(self, index: int) -> dict[str, Any]:
        """A sample of the dataset within, to be added to."""
        sample = self.within[index]
        if not isinstance(sample, Mapping):
            raise ValueError(f"a sample is a mapping such as {{'hq': tensor}}, not a {type(sample).__name__}")
        return dict(sample)


def need_key(dataset: DatasetChoice, option: str, key: str) -> None:
    """Refuse a key that the dataset within says it does not give."""
    if dataset.keys is not None and key not in dataset.keys:
        given = " and ".join(map(repr, dataset.keys))
        raise ValueError(f"{option}: the dataset within gives {given}, not {key!r}; name one of them")


def image_at(sample: Mapping[str, Any], key: str) -> Tensor:
    """An RGB image (3, H, W) of a sample."""
    image = sample.get(key)
    if not isinstance(image, Tensor) or image.ndim != 3 or len(image) != 3:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"views are drawn of RGB images (3, H, W); at {key!r} there is {got}")
    return image
