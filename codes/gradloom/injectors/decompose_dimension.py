"""A dimension made part of the batch."""

from torch import Tensor

from gradloom.parts import Injector, Read, Write


class DecomposeDimension(Injector, type="decompose_dimension"):
    """Makes the slices along dimension `dim` samples: (B, ..., D, ...) becomes (D * B, ...), all of slice 0 first.

    The two other keys, called after `out` unless they are named, hold what `recompose_dimension` needs to undo it. A
    result that was cut short by `cutoff_dim` cannot be undone.
    """

    in_: Read
    out: Write
    dim: int
    cutoff_dim: int = -1  # how many samples to keep; -1 keeps all
    out_reverse_shape: Write | None = None  # by itself `<out>_reverse_shape`: the sizes before the batch took D in
    out_reverse_permute: Write | None = None  # by itself `<out>_reverse_permute`: the order of the dimensions then

    def check(self) -> None:
        """Refuse what cannot be taken apart, and name the keys that have no name yet."""
        if self.dim == 0:
            raise ValueError("'dim' is 0, which is the batch already; name another dimension")
        if self.cutoff_dim == 0 or self.cutoff_dim < -1:
            raise ValueError("'cutoff_dim' keeps at least one sample; write -1 to keep all")
        self.out_reverse_shape = self.out_reverse_shape or f"{self.out}_reverse_shape"
        self.out_reverse_permute = self.out_reverse_permute or f"{self.out}_reverse_permute"

    def forward(self, in_: Tensor) -> tuple[Tensor, list[int], list[int]]:
        dim = range(in_.dim())[self.dim]
        slices = in_.movedim(dim, 0)
        order = [*range(1, in_.dim())]
        order.insert(dim, 0)
        samples = slices.flatten(0, 1)
        return samples if self.cutoff_dim < 0 else samples[: self.cutoff_dim], list(slices.shape), order
