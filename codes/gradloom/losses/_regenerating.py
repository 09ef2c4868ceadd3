"""What a generator makes of inputs of which one is another."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.errors import RunError


def regenerate(
    generator: nn.Module, inputs: Sequence[Any], index: int, altered: Tensor, output: int | None, detached: bool
) -> Tensor:
    """Call a generator with `altered` as its input `index`, and return its output, or the one of a number.

    Raises:
        RunError: when the output of that number is not there, or there are several and no number is given.
    """
    context: AbstractContextManager[object] = torch.no_grad() if detached else nullcontext()
    with context:
        made = generator(*inputs[:index], altered, *inputs[index + 1 :])
    return chosen(made, output)


def chosen(made: Any, output: int | None) -> Tensor:
    """One output of a generator; a single tensor is its own output 0."""
    outputs = made if isinstance(made, tuple | list) else (made,)
    if output is None and len(outputs) > 1:
        raise RunError(f"the generator has {len(outputs)} outputs; say which with 'generator_output_index'")
    if (output or 0) >= len(outputs):
        raise RunError(f"the generator has {len(outputs)} outputs, so 'generator_output_index' is less than that")
    tensor: Tensor = outputs[output or 0]
    return tensor


def check_index(index: int, inputs: Sequence[Any]) -> None:
    """Refuse, with a `ValueError`, the number of an input that is not there."""
    if index >= len(inputs):
        raise ValueError(f"'input_alteration_index' {index} is too large: 'fake' lists {len(inputs)}, counted from 0")
