"""Notice what torch lets pass where there are no values: mixed dtypes, and channels of transposed convolutions."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradloom.engine.preflight.words import dtype_of

_PRODUCTS = frozenset({
    F.linear, F.bilinear, torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, Tensor.matmul,
    Tensor.__matmul__, Tensor.mm, Tensor.bmm, Tensor.addmm, Tensor.baddbmm,
})  # fmt: skip


_TRANSPOSED = frozenset({F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d})


class MixedTypes(TypeError):
    """A product of tensors that have different dtypes."""


class Strict(TorchFunctionMode):
    """Raises `MixedTypes` for a product of tensors of different dtypes, `ValueError` for channels that do not fit.

    Where autocast would bring floats to one dtype, only whole numbers are told apart from them.
    """

    def __init__(self, autocast: bool) -> None:
        super().__init__()
        self.autocast = autocast

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function in _PRODUCTS:
            self._check_types([value for value in args if isinstance(value, Tensor)])
        elif function in _TRANSPOSED and len(args) > 1:
            _check_channels(args[0], args[1])
        return function(*args, **(kwargs or {}))

    def _check_types(self, tensors: list[Tensor]) -> None:
        lenient = self.autocast or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        kinds = {tensor.is_floating_point() if lenient else tensor.dtype for tensor in tensors}
        if len(kinds) > 1:
            dtypes = " by ".join(dict.fromkeys(map(dtype_of, tensors)))
            raise MixedTypes(f"a product of {dtypes}; bring them to one type")


def _check_channels(x: Tensor, weight: Tensor) -> None:
    """See that (B, C, ...) or (C, ...) has the channels that a weight (C, ...) takes."""
    channels = x.shape[1 if x.dim() == weight.dim() else 0]
    if channels != weight.shape[0]:
        raise ValueError(f"the input has {channels} channels, the layer takes {weight.shape[0]}")
