"""What methods of parts and networks return by name, looked at before it is used; it may be anybody's code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from gradloom.errors import RunError


def numbers(found: Any, who: str) -> dict[str, float]:
    """Numbers by name; the host waits for those that are on a GPU.

    Raises:
        RunError: when they are anything else; it begins with `who` returned them.
    """
    told = {}
    for name, value in _by_name(found, who, "numbers"):
        try:
            told[name] = float(value.detach() if isinstance(value, Tensor) else value)
        except (OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(f"{who} returns numbers; {name!r} is none: {error}") from error
    return told


def images(found: Any, who: str) -> dict[str, Tensor]:
    """Images by name.

    Raises:
        RunError: when they are anything else.
    """
    told = dict(_by_name(found, who, "images"))
    for name, value in told.items():
        if not isinstance(value, Tensor):
            raise RunError(f"{who} returns images in tensors; {name!r} is a {type(value).__name__}")
    return told


def parameters(found: Any, who: str) -> dict[str, list[nn.Parameter]]:
    """Lists of parameters by name.

    Raises:
        RunError: when they are anything else.
    """
    told = {}
    for name, value in _by_name(found, who, "lists of parameters"):
        several = list(value) if isinstance(value, Iterable) and not isinstance(value, Tensor | nn.Module) else [value]
        odd = [one for one in several if not isinstance(one, nn.Parameter)]
        if odd or several == [value]:
            raise RunError(
                f"{who} returns lists of parameters; {name!r} is or holds a {type((odd or several)[0]).__name__}"
            )
        told[name] = several
    return told


def _by_name(found: Any, who: str, what: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(found, Mapping):
        raise RunError(f"{who} returns {what} by name, got a {type(found).__name__}")
    odd = [name for name in map(str, found) if not name.isprintable() or name.isspace()]  # '' is the part's own
    if odd:
        raise RunError(f"{who} returns {what} by name; {odd[0]!r} is no name, which is a word or more in one line")
    return [(str(name), value) for name, value in found.items()]
