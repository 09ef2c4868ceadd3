"""The average of any state key."""

from collections.abc import Mapping

from torch import Tensor

from gradloom.evaluators._scores import Scores, precise
from gradloom.parts import Evaluator, Read


class Mean(Evaluator, type="mean"):
    """Averages `value` over all samples: a tensor (B, ...), of which each sample counts once, or a scalar.

    A scalar is what a loss or an earlier mean made of a batch. It counts for as many samples as `batch` has, a key
    (B, ...); without that, each batch counts once, however long.
    """

    value: Read
    batch: Read | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.scores = Scores(self.type_name)

    def forward(self, value: Tensor, batch: Tensor | None) -> Tensor:
        """Return the mean of each sample of a batch, or that of the batch as often as it counts."""
        if value.ndim == 0:
            value = value.expand(1 if batch is None else len(batch))
        return value if value.ndim == 1 else precise(value).flatten(1).mean(1)

    def add(self, found: Tensor) -> None:
        """Take in the values (B,) of a batch."""
        self.scores.add(found)

    def compute(self) -> Mapping[str, float]:
        """The mean over all samples."""
        return {"mean": self.scores.mean()}

    def protocol(self) -> str:
        """How many values were averaged."""
        return f"mean over {self.scores.count} values of {self.value!r}"
