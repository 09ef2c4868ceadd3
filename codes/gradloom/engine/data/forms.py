"""What samples look like: their keys, and the shape and type of each tensor, which have to be alike within a batch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

Form = Mapping[Any, Any]
"""For each key of a sample, what kind of value it has."""


class Shape(NamedTuple):
    """What a tensor or array looks like."""

    size: tuple[int, ...]
    dtype: Any

    def __repr__(self) -> str:
        return f"{tuple(self.size)} {str(self.dtype).removeprefix('torch.')}"


def form_of(sample: Mapping[Any, Any]) -> Form:
    """What a sample looks like."""
    return {key: _kind(value) for key, value in sample.items()}


def _kind(value: Any) -> Any:
    if isinstance(value, Tensor):  # first and alone, since every sample comes by
        return Shape(value.shape, value.dtype)
    if isinstance(value, np.ndarray | np.generic):
        return Shape(value.shape, value.dtype)
    if isinstance(value, Mapping):
        return form_of(value)
    if isinstance(value, list | tuple):
        return [_kind(item) for item in value]
    return "a number" if isinstance(value, int | float) else f"of the type {type(value).__name__}"


def most_common(forms: Sequence[Form]) -> list[Form]:
    """The form that most have, or all that are had by as many, in their order."""
    different: list[Form] = []
    for form in forms:
        if form not in different:
            different.append(form)
    counts = [forms.count(form) for form in different]
    return [form for form, count in zip(different, counts, strict=True) if count == max(counts)]


def difference(form: Form, wanted: Form) -> str:
    """Say how a form differs from another."""
    if form.keys() != wanted.keys():
        return f"it holds {_listed(form)}, the others {_listed(wanted)}"
    key = next(key for key in wanted if form[key] != wanted[key])
    return f"{key} is {form[key]}, the others {wanted[key]}"


def _listed(form: Form) -> str:
    return ", ".join(map(str, form)) or "nothing"
