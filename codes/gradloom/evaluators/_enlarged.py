"""What metrics of a generator that enlarges the images of a dataset have in common."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.evaluators._generated import Generated
from gradloom.parts import DatasetChoice, Read, Shown


class Enlarged(Generated):
    """Compares what a generator makes of each `lq` of a dataset with all of its `hq`.

    The ancestor compared with the files of the dataset's folder, as they were.
    """

    scale: Annotated[int, Gt(0)]  # how many times as large the generator's images are
    dataset: DatasetChoice  # measured instead of datasets.val; with a batch_size above 1, its images have one size
    lq: Read = "lq"
    hq: Read = "hq"

    def looks_at(self) -> Shown:
        """The dataset."""
        return Shown(self.dataset, self.batch_size, "dataset")

    def forward(self, lq: Tensor, hq: Tensor, for_: nn.Module, network: nn.Module | None) -> dict[str, Tensor]:
        """Return the features of what is made of a batch, and of the batch's images."""
        fake = self.image(for_(lq))
        wanted = (lq.shape[-2] * self.scale, lq.shape[-1] * self.scale)
        if fake.shape[-2:] != wanted:
            made = f"{self.for_!r} made {tuple(fake.shape[-2:])} of {tuple(lq.shape[-2:])}"
            raise RunError(f"{self.type_name}: {made}, which is not {self.scale} times as large; change 'scale'")
        return {"fake": self.describe(self.finish(fake, lq), network), "real": self.describe(hq, network)}

    def finish(self, fake: Tensor, lq: Tensor) -> Tensor:
        """The image to measure of what the generator made."""
        return fake
