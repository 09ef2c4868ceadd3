"""Share of right answers."""

from collections.abc import Mapping

from torch import Tensor

from gradloom.errors import RunError
from gradloom.parts import Evaluator, Read


class Accuracy(Evaluator, type="accuracy"):
    """Measures how often the largest of the logits (B, C) is that of the label (B,): from 0 to 1."""

    logits: Read
    labels: Read

    def reset(self) -> None:
        """Forget all answers."""
        self.right = self.count = 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return which answers (B,) of a batch are right."""
        return logits.argmax(1) == labels

    def add(self, found: Tensor) -> None:
        """Count the right answers of a batch."""
        self.right += int(found.sum())
        self.count += len(found)

    def compute(self) -> Mapping[str, float]:
        """The share of right answers."""
        if not self.count:
            raise RunError("accuracy: there was no sample to measure")
        return {"accuracy": self.right / self.count}

    def protocol(self) -> str:
        """Of how many."""
        return f"{self.count} samples"
