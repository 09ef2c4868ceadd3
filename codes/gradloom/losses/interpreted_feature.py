"""How far images are apart for two networks, each of which knows the images of one side."""

from pathlib import Path

from torch import Tensor

from gradloom.losses._criteria import distance
from gradloom.losses._featured import Featured
from gradloom.parts import Scalar


class InterpretedFeature(Featured, type="interpreted_feature"):
    """Averages the distance of the features of `fake`, as one network has them, and of `real`, as another has them.

    The network that looks at `real` has the published weights; the one that looks at `fake` those in the file
    `load_path`. That one has learnt to make the published network's features from altered images, such as grey or
    small ones, so that the loss minds only what can be told from these. Images, models and options are those of the
    loss `feature`. Both networks are frozen; gradients reach `real` too, as in the ancestor.
    """

    def check(self) -> None:
        super().check()
        if self.load_path is None and self.weights != "random":
            raise ValueError("option 'load_path' is missing; it takes the file of the network that looks at 'fake'")

    def files(self) -> tuple[Path | None, ...]:
        """The file of the one that interprets, then the published one."""
        return (self.load_path, None)

    def forward(self, real: Tensor, fake: Tensor) -> Scalar:
        interpret, extract = self.extractors
        return distance(self.criterion, interpret(fake), extract(real))
