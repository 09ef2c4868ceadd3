"""Annotations of options as JSON Schemas."""

import json
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf

from gradloom.config.annotations import Wants
from gradloom.config.binding import others_of, parameters_of
from gradloom.config.explained import comments_of, default_of, summary
from gradloom.config.schedules import Schedule
from gradloom.parts import Arguments, Choice, Part

Schema = dict[str, Any]


def ref(name: str, option: str = "") -> Schema:
    """Point to a definition, or to an option in it."""
    return {"$ref": f"#/$defs/{name}" + (f"/properties/{option}" if option else "")}


def annotated(annotation: Any) -> Schema:
    """What values an annotation allows; everything where it is none that YAML has values for."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation == Arguments:
        return ref("arguments")
    if origin is Annotated:
        return _constrained(annotated(arguments[0]), annotation.__metadata__)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return _any_of(arguments)
    if origin is tuple and Ellipsis not in arguments:
        count = len(arguments)
        return {"type": "array", "prefixItems": [*map(annotated, arguments)], "minItems": count, "maxItems": count}
    if origin in (list, tuple, Sequence, Collection, Iterable):
        return {"type": "array", "items": annotated(arguments[0])}
    if _is(origin or annotation, Mapping):
        values = annotated(arguments[1]) if arguments else {}
        return {"type": "object"} | ({"additionalProperties": values} if values else {})
    return _chosen(annotation) if isinstance(annotation, type) else {}


def _chosen(cls: type) -> Schema:
    if issubclass(cls, Schedule):
        return ref("schedule")
    if issubclass(cls, Enum):
        return {"enum": [one.value for one in cls]}
    if issubclass(cls, Part):
        return ref(cls.registry.kind)
    if issubclass(cls, Choice):
        return ref(f"{cls.registry.kind}_within")
    return options(cls) if is_dataclass(cls) else dict(_PLAIN.get(cls, {}))


_PLAIN: dict[type, Schema] = {
    int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"}, bool: {"type": "boolean"},
    types.NoneType: {"type": "null"}, Path: {"type": "string"},
}  # fmt: skip


def _is(annotation: Any, parent: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, parent)


def _any_of(members: Iterable[Any]) -> Schema:
    """One of several, without those of torch's, which no file can write."""
    kept = [annotated(member) for member in members if not getattr(member, "__module__", "").startswith("torch")]
    distinct = [schema for index, schema in enumerate(kept) if schema not in kept[:index]]
    return {} if {} in distinct else distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _constrained(schema: Schema, metadata: Iterable[Any]) -> Schema:
    found: Schema = {}
    for extra in metadata:
        if isinstance(extra, Wants):
            found["description"] = extra.name
        elif isinstance(extra, MinLen | MaxLen):
            size = "Items" if schema.get("type") == "array" else "Length"
            found |= {f"min{size}": extra.min_length} if isinstance(extra, MinLen) else {f"max{size}": extra.max_length}
        elif type(extra) in _CONSTRAINTS:
            keyword, attribute = _CONSTRAINTS[type(extra)]
            found[keyword] = getattr(extra, attribute)
    return schema | found


_CONSTRAINTS: dict[type, tuple[str, str]] = {
    Ge: ("minimum", "ge"), Gt: ("exclusiveMinimum", "gt"), Le: ("maximum", "le"), Lt: ("exclusiveMaximum", "lt"),
    MultipleOf: ("multipleOf", "multiple_of"),
}  # fmt: skip


def properties(target: Callable[..., Any], skip: Collection[str] = ()) -> dict[str, Schema]:
    """What a class or function takes, by the names that options have."""
    comments = comments_of(target)
    found = {}
    for name, annotation, default in parameters_of(target):
        if name in skip:
            continue
        schema = annotated(annotation)
        schema |= {"description": comments[name]} if name in comments else {}
        found[name.rstrip("_")] = schema | _default(default_of(target, name, default))
    return found


def _default(value: Any) -> Schema:
    """The default, where there is one that can be written."""
    if value is Parameter.empty:
        return {}
    try:
        return {"default": json.loads(json.dumps(str(value) if isinstance(value, Path) else value, allow_nan=False))}
    except (TypeError, ValueError):
        return {}


def required(target: Callable[..., Any], skip: Collection[str] = ()) -> list[str]:
    """The options that have to be given."""
    taken = [(name, default) for name, _, default in parameters_of(target) if name not in skip]
    return [name.rstrip("_") for name, default in taken if default is Parameter.empty]


def options(target: Callable[..., Any], skip: Collection[str] = ()) -> Schema:
    """A mapping of what a class or function takes, and of what it takes by other names."""
    return mapping(properties(target, skip), summary(target), required(target, skip), others(target))


def others(target: Callable[..., Any]) -> Schema | bool:
    """What a class or function takes by names that it does not know; False where that is nothing."""
    annotation = others_of(target)
    return False if annotation is None else annotated(annotation) or True


def mapping(
    entries: Mapping[str, Schema], description: str = "", needed: Sequence[str] = (), more: Schema | bool = False
) -> Schema:
    """A mapping of some options."""
    said: Schema = {"description": description} if description else {}
    needs: Schema = {"required": list(needed)} if needed else {}
    return {"type": "object", **said, **needs, "properties": dict(entries), "additionalProperties": more}
