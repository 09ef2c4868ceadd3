"""Tell TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from gradloom.engine.log import Kind, Silent


class TensorBoard(Silent):
    """Writes event files: losses under their own names, measurements under `eval/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = SummaryWriter(str(folder))

    def scalars(self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        for name, value in values.items():
            tag = name if kind == "train" else f"eval/{name}"
            self.writer.add_scalar(tag, value, iteration)

    def image(self, key: str, iteration: int, picture: Tensor) -> None:
        self.writer.add_image(key, picture, iteration)

    def rewind(self, iteration: int, measured: bool) -> None:
        """Have TensorBoard leave out what it was told of later iterations, by this run or one before."""
        self.writer.close()
        self.writer = SummaryWriter(str(self.folder), purge_step=iteration + 1)

    def close(self) -> None:
        self.writer.close()
