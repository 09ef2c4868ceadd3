"""Slices of a tensor, each under a name of its own."""

from torch import Tensor

from gradloom.errors import RunError
from gradloom.parts import Injector, Read, Write


class IndicesExtractor(Injector, type="indices_extractor"):
    """Writes the slices 0, 1, ... along dimension `dim`, as many as `out` names, without that dimension.

    The ancestor knew dimension 1 only.
    """

    in_: Read
    out: tuple[Write, ...]
    dim: int = 1

    def check(self) -> None:
        if not self.out:
            raise ValueError("'out' is empty; name a key for each slice")

    def forward(self, in_: Tensor) -> tuple[Tensor, ...]:
        if len(self.out) > in_.shape[self.dim]:
            names, size = len(self.out), in_.shape[self.dim]
            raise RunError(f"indices_extractor: 'out' names {names} slices, dimension {self.dim} has {size}")
        return in_.unbind(self.dim)[: len(self.out)]
