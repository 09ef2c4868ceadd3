"""How far two tensors are apart, place by place."""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from gradloom.errors import RunError
from gradloom.parts import Scalar, widen

Criterion = Literal["l1", "l2", "charbonnier", "huber", "cosine"]
"""With x the difference of two elements: |x|; x²; √(x² + 0.001²); x²/2 where |x| < 1 and |x| - 1/2 elsewhere.

`cosine` is 1 less the cosine of the angle between the vectors along dimension 1, at each place.
"""


def distance(criterion: Criterion, fake: Tensor, real: Tensor) -> Scalar:
    """Return the mean distance of tensors of one shape, in float32 at least."""
    if criterion in _TORCHS:  # at once, as in the ancestor: Adam may make steps of how gradients round (decision 3)
        return _TORCHS[criterion](widen(fake), widen(real))
    return distances(criterion, fake, real).mean()


def distances(criterion: Criterion, fake: Tensor, real: Tensor) -> Tensor:
    """Return the distances of tensors of one shape, (B, ...) like them; `cosine` has none of their dimension 1."""
    if criterion in _TORCHS:
        return _TORCHS[criterion](widen(fake), widen(real), reduction="none")
    return _OTHERS[criterion](widen(fake), widen(real))


def check_shapes(part: str, fake: Tensor, real: Tensor, names: tuple[str, str]) -> None:
    """Refuse, with a `RunError`, tensors that differ in shape, of which one would be repeated silently."""
    if fake.shape != real.shape:
        shapes = f"{tuple(fake.shape)} and {tuple(real.shape)}"
        raise RunError(f"{part}: {names[0]} and {names[1]} must have the same shape, they have {shapes}")


_TORCHS: Mapping[Criterion, Callable[..., Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss, "huber": F.huber_loss}

_OTHERS: Mapping[Criterion, Callable[[Tensor, Tensor], Tensor]] = {
    "charbonnier": lambda fake, real: ((fake - real).square() + 0.001**2).sqrt(),
    "cosine": lambda fake, real: 1 - F.cosine_similarity(fake, real, 1),
}
