"""What metrics of a generator that enlarges the images of a dataset have in common."""

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import Gt
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.evaluators._generated import Generated, Images, batches_of
from gradloom.parts import DatasetChoice


class Enlarged(Generated):
    """Compares what a generator makes of each `lq` of a dataset with all of its `hq`.

    The ancestor compared with the files of the dataset's folder, as they were.
    """

    scale: Annotated[int, Gt(0)]  # how many times as large the generator's images are
    dataset: DatasetChoice  # its samples hold `lq` and `hq`; with a batch_size above 1, all of one size

    def check(self) -> None:
        """Refuse a dataset without images to enlarge, or to compare with."""
        super().check()
        if self.dataset.keys is not None and not {"lq", "hq"} <= {*self.dataset.keys}:
            raise ValueError(f"'dataset' needs samples with 'lq' and 'hq'; these hold {', '.join(self.dataset.keys)}")

    def setup(self) -> None:
        """Open the dataset."""
        super().setup()
        self.samples_of = self.dataset.build()

    def forward(self, for_: nn.Module, network: nn.Module | None) -> dict[str, Any] | None:
        """What was found of all images, the first time."""
        return self.look_at(self._images(for_), network)

    def finish(self, fake: Tensor, lq: Tensor) -> Tensor:
        """The image to measure of what the generator made."""
        return fake

    def _images(self, generator: nn.Module) -> Iterator[Images]:
        for batch in batches_of(self.samples_of, self.batch_size, generator):
            lq, fake = batch["lq"], self.image(generator(batch["lq"]))
            wanted = (lq.shape[-2] * self.scale, lq.shape[-1] * self.scale)
            if fake.shape[-2:] != wanted:
                made = f"{self.for_!r} made {tuple(fake.shape[-2:])} of {tuple(lq.shape[-2:])}"
                raise RunError(f"{self.type_name}: {made}, which is not {self.scale} times as large; change 'scale'")
            yield {"fake": self.finish(fake, lq), "real": batch["hq"]}
