"""What preflight finds in the text of an options file, for tests."""

from typing import Any

import torch
from torch.utils.data import Dataset

import gradloom
from gradloom.engine.preflight.look import look_ahead
from gradloom.engine.preflight.report import Report
from gradloom.errors import Fault
from making import plan_of

SAMPLES: dict[str, Any] = {
    "gan": {"hq": torch.linspace(-1, 1, 2), "z": torch.zeros(4)},
    "image": {"hq": torch.zeros(3, 16, 16), "lq": torch.zeros(3, 8, 8), "label": 7, "path": "a.png"},
    "double": {"hq": torch.zeros(2, dtype=torch.float64), "z": torch.zeros(4)},
    "bytes": {"hq": torch.zeros(2), "z": torch.zeros(4, dtype=torch.uint8)},
    "sequence": {"hq": torch.zeros(6, 8), "label": torch.tensor(1)},
    "no mapping": (torch.zeros(2), torch.zeros(4)),
    "nothing": {"hq": None, "z": torch.zeros(4)},
}


@gradloom.datasets.register("test_samples")
class Samples(Dataset[Any]):
    """Equal samples of a kind; the first `bad` of them cannot be read. It does not say which keys it has."""

    def __init__(self, kind: str, length: int = 100, bad: int = 0) -> None:
        self.kind, self.length, self.bad = kind, length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if index < self.bad:
            raise OSError(f"file {index} is truncated")
        return SAMPLES[self.kind]


@gradloom.datasets.register("test_boasting")
class Boasting(Samples):
    """Declares a key that its samples do not have."""

    @classmethod
    def keys(cls, **_: object) -> tuple[str, ...]:
        return ("hq", "z", "depth")


def looked(text: str, *overrides: str) -> Report:
    """What preflight says of the text of an options file."""
    return look_ahead(plan_of(text, *overrides), torch.device("cpu"))


def lines(faults: list[Fault]) -> list[str]:
    """Each as its dotted path and message."""
    return [f"{fault.path}: {fault.message}" for fault in faults]


def only(faults: list[Fault]) -> str:
    """The one that there is."""
    assert len(faults) == 1, lines(faults)
    return lines(faults)[0]
