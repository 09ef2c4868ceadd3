"""A loss of each entry of a sequence."""

from typing import Any

from gradloom.errors import RunError
from gradloom.losses._sequences import length, of_entry
from gradloom.parts import Inner, Loss, Metrics, Scalar


class Recurrent(Loss, type="recurrent"):
    """Adds up a loss over the entries of the sequences (B, T, ...) that it reads, such as the images of a film.

    The loss `part` is given entry t of all that it reads, (B, ...); the sum is of recurrent_weights[t] times what it
    returns. Its metrics are means over the entries; what it writes is the last entry's.
    """

    part: Loss
    recurrent_weights: list[float] | None = None  # one for each entry; None is 1 for each

    def forward(self, part: Inner) -> tuple[Scalar, Metrics, *tuple[Any, ...]]:
        entries = length("recurrent", part)
        weights = self.recurrent_weights or [1.0] * entries
        if len(weights) != entries:
            raise RunError(
                f"recurrent: 'recurrent_weights' has {len(weights)} numbers, the sequences {entries} entries"
            )
        losses, metrics, *written = zip(*(of_entry(part, index) for index in range(entries)), strict=True)
        total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        means = {name: sum(one[name] for one in metrics) / entries for name in metrics[0]}
        return total, means, *(values[-1] for values in written)
