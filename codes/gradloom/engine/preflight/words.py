"""Say what torch says of shapes and types in words that name the numbers at odds."""

import re
from collections.abc import Callable, Mapping
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn

from gradloom.errors import RunError
from gradloom.parts import Part, Port
from gradloom.raised import own_line

_SHAPE = r"(?:torch\.Size\()?\[([\d, ]*)\]\)?"


def _both(found: re.Match[str]) -> str:
    return f"({found[2]}) and ({found[1]}) cannot be combined element by element"


def _product(found: re.Match[str]) -> str:
    first, second = found[1], found[2]
    columns, rows = first.rpartition(" ")[2], second.partition(",")[0]
    return f"a matrix of ({first}) cannot be multiplied by one of ({second}): {columns} columns meet {rows} rows"


def _types(found: re.Match[str]) -> str:
    return f"the input is of type {found[1]}, the weights of type {found[2]}; make them one"


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(rf"Attempting to broadcast .* had {_SHAPE}; but expected shape .* to {_SHAPE}"),
        _both,
    ),
    (re.compile(rf"a and b must have same reduction dim, but got {_SHAPE} X {_SHAPE}"), _product),
    (re.compile(r"Input type \((.+?)\) and (?:bias|weight) type \((.+?)\) should be the same"), _types),
    (re.compile(r"Invalid channel dimensions"), lambda _: "the input has another number of channels than the layer"),
    (
        re.compile(r"running_mean should contain (\d+) elements not (\d+)"),
        lambda found: f"the input has {found[1]} channels, the norm {found[2]}",
    ),
    (re.compile(r"Tensor\.item\(\) cannot be called on meta"), lambda _: "it looks at the values of tensors"),
    (
        re.compile(r"Cannot copy out of meta tensor|can't convert meta device type tensor to numpy"),
        lambda _: "it takes tensors from their device, as .cpu() and .numpy() do",
    ),
    (re.compile(r"^unsupported scalarType$"), lambda _: "it uses autocast, which needs tensors with values"),
    (
        re.compile(r"(one of the variables .* modified by an inplace operation)"),
        lambda found: f"{found[1]}; look for one, such as 'x += y' or 'inplace=True', and write it anew",
    ),
    (
        re.compile(rf"Using a target size \({_SHAPE}\) that is different to the input size \({_SHAPE}\).*"),
        lambda found: (
            f"compares ({found[2]}) with ({found[1]}), so each number of the one with several of the other; "
            "give them one shape if that is not meant"
        ),
    ),
)


def in_plain_words(error: BaseException) -> str:
    """The first line of an error, made readable where it is known to be terse."""
    return plain(str(error), error)


def plain(text: str, error: BaseException | Warning | None = None) -> str:
    """The first line of a text, made readable where it is known to be terse."""
    line = next(iter(text.strip().splitlines()), "").strip()
    for pattern, words in _RULES:
        if found := pattern.search(line):
            return words(found)
    line = re.sub(r"torch\.Size\(\[([\d, ]*)\]\)", r"(\1)", line)
    line = re.sub(r" with <built-in method dim [^>]*> dimension\(s\)", " with fewer", line)  # a slip of torch's
    known = (
        type(error).__module__.startswith("gradloom.")
        or isinstance(error, RunError | RuntimeError | ValueError | Warning)
        or error is None
    )
    return line if known and line else f"{type(error).__name__}: {line}".rstrip(": ")


def given(part: Part, values: Mapping[str, Any]) -> str:
    """What a part was given at its Read ports."""
    told = [
        f"{field.rstrip('_')} {describe(_looked_up(getattr(each, field), values))}"
        for each in part.whole()
        for field, port in each.ports.items()
        if port is Port.READ and getattr(each, field) is not None
    ]
    return f"; it got {', '.join(told)}" if told else ""


def _looked_up(names: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(names, str):
        return values.get(names)
    if isinstance(names, dict):
        return {option: _looked_up(name, values) for option, name in names.items()}
    return [_looked_up(name, values) for name in names] if isinstance(names, list | tuple) else names


def describe(value: Any) -> str:
    """A tensor by its shape, and its dtype unless that is float32; anything else in a few words."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)}{'' if value.dtype == torch.float32 else f' {dtype_of(value)}'}"
    if isinstance(value, list | tuple):
        more = ", ..." if len(value) > 4 else ""
        return f"[{', '.join(map(describe, value[:4]))}{more}]"
    plainly = value is None or isinstance(value, str | int | float)
    return repr(value) if plainly else type(value).__name__


def authors_line(error: BaseException) -> str:
    """The line of somebody's own code that led to an error; empty for a `ValueError`, which says what is wrong."""
    return "" if isinstance(error, ValueError) else own_line(error)


def dtype_of(tensor: Tensor) -> str:
    """A dtype without the name of torch."""
    return str(tensor.dtype).removeprefix("torch.")


def layer(error: BaseException, networks: Mapping[str, nn.Module]) -> str:
    """The innermost layer of a network in which an error was raised, and what that layer was given."""
    names = {id(part): f"{name}.{path}" for name, net in networks.items() for path, part in net.named_modules() if path}
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        inside = frame.f_locals.get("self")
        if isinstance(inside, nn.Module) and id(inside) in names:
            tensors = (value for key, value in frame.f_locals.items() if isinstance(value, Tensor))
            got = next((f", which got {describe(tensor)}" for tensor in tensors), "")
            options = inside.extra_repr()
            kind = type(inside).__name__ + (f"({options})" if options else "")
            return f", in {names[id(inside)]}, {kind}{got}"
    return ""


def amount(size: int) -> str:
    """Bytes in a unit that suits them, as disks are sold: 1 kB is 1000 bytes."""
    number = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
