"""Tell TensorBoard."""

import threading
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from gradloom.engine.log import Kind, Silent


class TensorBoard(Silent):
    """Writes event files: losses under their own names, measurements under `eval/`.

    What its thread cannot write, such as to a full disk, is raised here when it is told something next; so the thread
    need not print it too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before, threading.excepthook = threading.excepthook, self._note
        self.writer = SummaryWriter(str(folder))

    def scalars(self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        for name, value in values.items():
            tag = f"eval/{name}" if kind == "eval" else name
            self.writer.add_scalar(tag, value, iteration)

    def image(self, key: str, iteration: int, picture: Tensor) -> None:
        self.writer.add_image(key, picture, iteration)

    def rewind(self, iteration: int, measured: bool) -> None:
        """Have TensorBoard leave out what it was told of later iterations, by this run or one before."""
        self.writer.close()
        self.writer = SummaryWriter(str(self.folder), purge_step=iteration + 1)

    def close(self) -> None:
        try:
            self.writer.close()
        finally:
            threading.excepthook = self._before

    def _note(self, failure: threading.ExceptHookArgs) -> None:
        if not issubclass(failure.exc_type, OSError):
            self._before(failure)
