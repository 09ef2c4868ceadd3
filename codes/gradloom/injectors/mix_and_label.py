"""Samples from several keys, mixed."""

import torch
from torch import Tensor

from gradloom.parts import Injector, Read, Write


class MixAndLabel(Injector, type="mix_and_label"):
    """Takes each sample of a batch from one of N keys at random, (B, ...) each, and says from which.

    The labels are whole numbers (B,): places in the list `in`.
    """

    in_: tuple[Read, ...]
    out: Write
    out_labels: Write

    def check(self) -> None:
        if not self.in_:
            raise ValueError("'in' is empty; name the keys to mix")

    def forward(self, in_: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        first = in_[0]
        labels = torch.randint(len(in_), (len(first),), device=first.device)
        return torch.stack(in_)[labels, torch.arange(len(first), device=first.device)], labels
