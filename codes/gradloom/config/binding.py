"""Match nodes against the annotated parameters of whatever they configure.

Lists, mappings, unions and dataclasses are followed here, so that each fault stands at its own line;
pydantic judges what is left, single values with their constraints.
"""

import collections.abc
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from gradloom.config.annotations import LISTS, FromNode, derives, describe
from gradloom.config.node import Node
from gradloom.config.schedules import Schedule
from gradloom.config.source import home_expanded, plain
from gradloom.errors import Fault, closest, suggest
from gradloom.raised import in_short, own_line


def bind(
    target: Callable[..., Any], node: Node, faults: list[Fault],
    skip: Collection[str] = (), hidden: Collection[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return the keyword arguments that `node` gives `target`; append to `faults` what does not fit, and leave it out.

    A parameter named like a Python keyword, or like a method, ends in an underscore that its option does not have.
    Options to `skip` are read by somebody else; parameters that are `hidden` are none.
    """
    if not isinstance(node.value, dict):
        faults.append(node.fault(f"expected options, got {node.show()}"))
        return {}
    parameters = {name.rstrip("_"): (name, hint, default) for name, hint, default in parameters_of(target)}
    parameters = {option: parameter for option, parameter in parameters.items() if option not in {*skip, *hidden}}
    arguments: dict[str, Any] = {}
    others = others_of(target)
    meant = set()
    for option, child in node.value.items():
        if option in skip:
            continue
        if option in parameters:
            name, annotation, _ = parameters[option]
            before = len(faults)
            value = convert(child, annotation, faults)
            arguments |= {name: value} if len(faults) == before else {}
        elif others is not None and option not in hidden:
            before = len(faults)
            value = convert(child, others, faults)
            arguments |= {option: value} if len(faults) == before else {}
        else:
            known = parameters.keys() | set(skip)
            meant.add(closest(option, known))
            faults.append(child.fault(f"unknown option; {suggest(option, known)}"))
    for option, (_, annotation, default) in parameters.items():
        if default is inspect.Parameter.empty and option not in node.value and option not in meant:
            faults.append(node.fault(f"option {option!r} is missing; it takes {describe(annotation)}"))
    return arguments


def make(
    target: Callable[..., Any], node: Node, faults: list[Fault],
    skip: Collection[str] = (), hidden: Collection[str] = (),
) -> Any:  # fmt: skip
    """Bind and call; None when there is any fault.

    A `ValueError` of the target's is a fault too; one that begins with an option's name stands there. So is whatever
    somebody's own code raises.
    """
    found: list[Fault] = []
    arguments = bind(target, node, found, skip, hidden)
    faults += found
    if found:
        return None
    with judged(node, faults):
        try:
            return target(**arguments)
        except ValueError as error:
            named = re.match(r"'?(\w+)", str(error))
            place = node.get(named[1]) if named else None
            faults.append((place or node).fault(str(error)))
    return None


@contextmanager
def judged(node: Node, faults: list[Fault]) -> Iterator[None]:
    """Make a fault of what somebody's own code raises within."""
    try:
        yield
    except Exception as error:
        if not own_line(error):
            raise
        faults.append(node.fault(in_short(error)))


@cache
def parameters_of(target: Callable[..., Any]) -> tuple[tuple[str, Any, Any], ...]:
    """Name, annotation and default of everything that a class or function takes by name."""
    function = getattr(target, "__init__") if isinstance(target, type) else target
    try:
        hints = typing.get_type_hints(function, None, {**vars(collections.abc), **vars(typing)}, include_extras=True)
    except NameError:  # annotations that only a type checker can resolve
        hints = {}
    return tuple(
        (name, hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )


def others_of(target: Callable[..., Any]) -> Any:
    """What a class or function takes by any other name, as it annotates its `**options`; None where it takes none."""
    function = getattr(target, "__init__") if isinstance(target, type) else target
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            try:
                return typing.get_type_hints(function, include_extras=True).get(name, Any)
            except NameError:  # annotations that only a type checker can resolve
                return Any
    return None


def convert(node: Node, annotation: Any, faults: list[Fault]) -> Any:
    """Turn a node into a value of the annotated type, or append why it is not one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and get_origin(arguments[0]) in (Union, UnionType, list, tuple, dict):
        return convert(node, arguments[0], faults)
    if origin in LISTS:
        return (
            _convert_items(node, annotation, faults)
            if isinstance(node.value, list)
            else _refuse(node, annotation, faults)
        )
    if origin in (Union, UnionType):
        return _convert_union(node, annotation, faults)
    if origin in (list, tuple) and isinstance(node.value, list):
        return _convert_items(node, annotation, faults)
    if derives(origin, Mapping):
        if isinstance(node.value, dict):
            return {key: convert(child, arguments[1], faults) for key, child in node.value.items()}
        return _refuse(node, annotation, faults)
    if derives(annotation, Schedule):
        return _convert_schedule(node, faults)
    if derives(annotation, FromNode):
        return annotation.from_node(node, faults)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return make(annotation, node, faults)
    return _convert_leaf(node, annotation, faults)


def _convert_union(node: Node, annotation: Any, faults: list[Fault]) -> Any:
    """Take the first member that fits; where none does, say what the only one of the node's shape misses."""
    tried = []
    for member in get_args(annotation):
        found: list[Fault] = []
        value = convert(node, member, found)
        if not found:
            return value
        if isinstance(node.value, _shape(member)):
            tried.append(found)
    if len(tried) == 1:
        faults += tried[0]
        return None
    return _refuse(node, annotation, faults)


def _shape(annotation: Any) -> tuple[type, ...]:
    """Whether an annotation wants a mapping, a list or which kind of single value."""
    if get_origin(annotation) is Annotated:
        return _shape(get_args(annotation)[0])
    mappings = derives(annotation, Schedule) or derives(annotation, FromNode) or get_origin(annotation) is dict
    if mappings or dataclasses.is_dataclass(annotation):
        return (dict,)
    if get_origin(annotation) in (list, tuple, *LISTS):
        return (list,)
    return {int: (int, float), float: (int, float), str: (str,)}.get(annotation, ())


def _convert_items(node: Node, annotation: Any, faults: list[Fault]) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and Ellipsis not in arguments and len(arguments) != len(node.items):
        return _refuse(node, annotation, faults)
    kinds = arguments if origin is tuple and Ellipsis not in arguments else [arguments[0]] * len(node.items)
    items = [convert(item, kind, faults) for item, kind in zip(node.items, kinds, strict=True)]
    return tuple(items) if origin is tuple else items


def _convert_schedule(node: Node, faults: list[Fault]) -> Any:
    """Read `{linear: {...}}`, or the ancestor's `{type: linear_decay, ...}`."""
    kinds = Schedule.kinds
    if "type" in node.fields:
        kind, body, skip = node.fields["type"], node, {"type"}
        name = kind.value
    elif len(node.fields) == 1:
        ((name, body),) = node.fields.items()
        kind, skip = body, set()
    else:
        faults.append(node.fault(f"expected a number or a schedule such as {{linear: {{...}}}}, got {node.show()}"))
        return None
    if not isinstance(name, str):
        faults.append(kind.fault(f"expected the name of a schedule, got {kind.show()}"))
        return None
    if name not in kinds:
        faults.append(kind.fault(f"no schedule is called {name!r}; {suggest(name, kinds)}"))
        return None
    return make(kinds[name], body, faults, skip)


_TOO_LARGE = 10**18  # what counts in 64 bits, as torch and the system do, takes no more


def _convert_leaf(node: Node, annotation: Any, faults: list[Fault]) -> Any:
    value = node.value
    if annotation is Any:
        return node.plain()
    core = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if annotation is Node:
        return node
    if derives(core, Enum):
        member = next((one for one in core if one.value == value), None)
        return _refuse(node, annotation, faults) if member is None else member
    if core is Path and isinstance(value, str):
        return home_expanded(value)
    if core is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if core is int and isinstance(value, int) and abs(value) >= _TOO_LARGE:
        faults.append(node.fault(f"a whole number has 18 digits at most, got {node.show()}"))
        return None
    if get_origin(core) is Literal and isinstance(value, bool) and not any(one is value for one in get_args(core)):
        return _refuse(node, annotation, faults)  # true equals 1
    if isinstance(value, dict | list):
        value = node.plain()
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] in _CONSTRAINTS:
            found = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
            faults.append(node.fault(f"{found}, got {node.show()}"))
            return None
        return _refuse(node, annotation, faults)


_CONSTRAINTS = {
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of",
    "string_too_short", "string_too_long", "string_pattern_mismatch", "finite_number", "value_error",
}  # fmt: skip


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    strictly = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        return TypeAdapter(annotation, config=strictly)
    except PydanticUserError:  # a type with a configuration of its own
        return TypeAdapter(annotation)


def _refuse(node: Node, annotation: Any, faults: list[Fault]) -> None:
    faults.append(node.fault(f"expected {describe(annotation)}, got {node.show()}{_mend(node, annotation)}"))


def _mend(node: Node, annotation: Any) -> str:
    """What to write instead, where quotes or brackets are all that is wrong."""
    if not isinstance(node.value, str | bool | int | float):
        return ""
    if not isinstance(node.value, str) and describe(annotation) == describe(str):
        return "; write it in quotes"
    unquoted = plain(node.value) if isinstance(node.value, str) else ""
    if not isinstance(unquoted, str) and _fits(replace(node, value=unquoted), annotation):
        return "; remove the quotes"
    takes_list = {list, *LISTS} & {*map(get_origin, (annotation, *get_args(annotation)))}
    written = "it in brackets" if node.secret else f"[{node.value}]"
    return f"; write {written}" if takes_list and _fits(replace(node, value=[node]), annotation) else ""


def _fits(node: Node, annotation: Any) -> bool:
    convert(node, annotation, found := list[Fault]())
    return not found
