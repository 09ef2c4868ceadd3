"""Notice mixed dtypes in matrix products, which torch lets pass where there are no values."""

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


class MixedTypes(TypeError):
    """A product of tensors that have different dtypes."""


class SameTypes(TorchFunctionMode):
    """Raises `MixedTypes` for a product of tensors of different dtypes, as torch does when there are values.

    Where autocast would bring floats to one dtype, only whole numbers are told apart from them.
    """

    def __init__(self, autocast: bool) -> None:
        super().__init__()
        self.autocast = autocast

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function in _PRODUCTS:
            self._check([value for value in args if isinstance(value, Tensor)])
        return function(*args, **(kwargs or {}))

    def _check(self, tensors: list[Tensor]) -> None:
        lenient = self.autocast or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        kinds = {tensor.is_floating_point() if lenient else tensor.dtype for tensor in tensors}
        if len(kinds) > 1:
            dtypes = " by ".join(dict.fromkeys(map(dtype_of, tensors)))
            raise MixedTypes(f"a product of {dtypes}; bring them to one type")
