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

    def forward(self, logits: Tensor, labels: Tensor) -> None:
        """Take in the answers to a batch."""
        self.right += int((logits.argmax(1) == labels).sum())
        self.count += len(labels)

    def compute(self) -> Mapping[str, float]:
        """The share of right answers."""
        if not self.count:
            raise RunError("accuracy: there was no sample to measure")
        return {"accuracy": self.right / self.count}

    def protocol(self) -> str:
        """Of how many."""
        return f"{self.count} samples"
