"""How wrong a classifier is."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from gradloom.parts import Loss, Read, Scalar, widen


class CrossEntropy(Loss, type="cross_entropy"):
    """Averages the cross-entropy of logits and labels over all samples, or all pixels.

    The labels of each `subtype` are

        ce         whole numbers under C, one for each row of logits (..., C); images (B, C, H, W) need `swap_channels`
        bce        numbers in [0, 1], as many as logits, for each of which it is one class against another
        soft_ce    logits (B, C, ...) too, of which the softmax is the target

    A mask multiplies the logits: where it is 0, they tell nothing of the class, which costs ln C and gives no gradient.
    """

    logits: Read
    labels: Read
    mask: Read | None = None
    subtype: Literal["ce", "bce", "soft_ce"] = "ce"
    rescale: bool = False  # labels and mask, (B, H, W) or (B, C, H, W), to the logits' size by the nearest value
    swap_channels: bool = False  # of logits (B, C, ...), to (B, ..., C)

    def check(self) -> None:
        if self.subtype == "soft_ce" and self.swap_channels:
            raise ValueError("'soft_ce' takes the channels of logits and labels as they are; remove 'swap_channels'")

    def forward(self, logits: Tensor, labels: Tensor, mask: Tensor | None) -> Scalar:
        logits = widen(logits)
        if self.rescale:
            labels = _resized(labels, logits.shape[2:])
            mask = None if mask is None else _resized(mask, logits.shape[2:])
        if mask is not None:
            logits = logits * mask
        if self.swap_channels:
            logits = logits.movedim(1, -1)
        if self.subtype == "soft_ce":
            return F.cross_entropy(logits, widen(labels).softmax(1))
        if self.subtype == "bce":
            return F.binary_cross_entropy_with_logits(logits.flatten(), labels.flatten().to(logits))
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten().long())


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """Bring (B, *size) or (B, C, *size) to another size; each value becomes the nearest."""
    channels = values if values.ndim == len(size) + 2 else values.unsqueeze(1)
    numbers = channels if channels.is_floating_point() else channels.float()
    return F.interpolate(numbers, size=list(size), mode="nearest")
