"""The whole dialect of options files as a JSON Schema (draft 2020-12), from what checks them.

What a mapping may hold follows from the type that it names, so each kind is a list of rules: if this is the type, then
these are its options. A file by itself has to hold what it needs (`whole`) and to name types that are there (`known`);
one with `include` may leave things out, and one with `plugins` may name others.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from gradloom import parts
from gradloom.config.explained import summary
from gradloom.config.schedules import Schedule
from gradloom.config.sections import OPTIONAL, Eval, Paths, Sections, Train
from gradloom.parts import Evaluator, Injector, Loss, optimizers
from gradloom.plan.datasets import PHASES
from gradloom.plan.optimizers import NOT_FOR_OPTIMIZERS, NOT_FOR_SCHEMES, CommonOptions, lr_schemes
from gradloom.plan.options import DatasetOptions, NetworkOptions, StepOptions
from gradloom.plan.schema import Schema, mapping, options, others, properties, ref, required
from gradloom.registry import Registry

_PARTS: tuple[Any, ...] = (Injector, Loss, Evaluator)
_FROM_ELSEWHERE = ("mu_adamw",)  # whose options a library knows that may be missing


def text() -> str:
    """The schema as a file holds it."""
    return json.dumps(dialect(), indent=1) + "\n"


def dialect() -> Schema:
    """The schema of an options file."""
    trains: Schema = {"required": ["train"]}
    phases: Schema = {"properties": {"datasets": {"propertyNames": {"enum": list(PHASES)}}}}
    alone: Schema = {"not": {"required": ["include"]}}
    own_types: Schema = {"not": {"anyOf": [{"required": ["include"]}, {"required": ["plugins"]}]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Options of a Gradloom run",
        **mapping(_sections(), summary(Sections)),
        "allOf": [
            {"if": alone, "then": ref("whole")},
            {"if": own_types, "then": ref("known")},
            {"if": trains, "then": phases},
        ],
        "$defs": {
            "arguments": {
                "description": "a state key, or a list of them and of constants",
                "type": ["string", "number", "boolean", "null", "array"],
                "items": ref("arguments"),
            },
            "schedule": _schedule(),
            **dict(_networks()),
            **dict(_datasets()),
            **{name: schema for kind in _PARTS for name, schema in _parts(kind)},
            **dict(_optimizers()),
            "step": _step(),
            "whole": _whole(),
            **dict(_known()),
        },
    }


def _sections() -> dict[str, Schema]:
    """What stands at the top; sections that may be empty may be written so."""
    train = properties(Train)
    train["default_lr_scheme"] = train["default_lr_scheme"] | ref("lr_scheme")
    measured = {"injectors": _named(ref("injector")), "evaluators": _named(ref("evaluator"))}
    pretrained = {"^pretrain_(model|base_path)_": {"type": ["string", "null"]}}
    found = {
        "include": {"description": "files, relative to this one, whose options hold where this one has none"}
        | _one_or_several({"type": "string"}),
        **properties(Sections, ("pretrained", "faulty", "trains")),
        "train": mapping(train, summary(Train)),
        "eval": mapping({**properties(Eval), **measured}, summary(Eval)),
        "path": mapping(properties(Paths), summary(Paths)) | {"patternProperties": pretrained},
        "networks": _named(ref("network")),
        "steps": _named(ref("step")),
        "datasets": _named(ref("dataset")),
        "hooks": _named({"description": "what a plugin does besides training", "type": "object", "required": ["type"]}),
    }
    return {name: _or_nothing(schema) if name in OPTIONAL else schema for name, schema in found.items()}


def _step() -> Schema:
    """A step; its `optimizer_params` follow from its `optimizer`."""
    own = properties(StepOptions)
    for name, kind in (("injectors", "injector"), ("losses", "loss")):
        own[name] = _or_nothing(_named(ref(kind)))
    own["optimizer"] = {"description": "adamw unless it is given", "enum": sorted(optimizers.names)}
    own["optimizer_params"] = {"type": "object"}
    rules = []
    for name in sorted(optimizers.names):
        params = {"properties": {"optimizer_params": ref(_def("optimizer", name))}}
        rules.append({"if": _is("optimizer", name, name == "adamw"), "then": params})
    return mapping(own, summary(StepOptions)) | {"allOf": rules}


def _optimizers() -> Iterator[tuple[str, Schema]]:
    """Each optimizer's options, and each learning rate scheme's."""
    yield "optimizer_params", options(CommonOptions)
    common = {name: ref("optimizer_params", name) for name in properties(CommonOptions)}
    for name in sorted(optimizers.names):
        cls = None if name in _FROM_ELSEWHERE else optimizers.find(name)
        own = properties(cls, NOT_FOR_OPTIMIZERS) if cls else {}
        yield _def("optimizer", name), mapping({**own, **common}, "", required(CommonOptions), cls is None)
    schemes = sorted(lr_schemes.classes)
    rules = []
    for name, cls in sorted(lr_schemes.classes.items()):
        own = {"type": {"const": name}, **properties(cls, NOT_FOR_SCHEMES)}
        yield _def("lr_scheme", name), mapping(own, "", required(cls, NOT_FOR_SCHEMES))
        rules.append({"if": _is("type", name), "then": ref(_def("lr_scheme", name))})
    by_type = {"type": "object", "required": ["type"], "properties": {"type": {"enum": schemes}}, "allOf": rules}
    yield "lr_scheme", {"anyOf": [{"enum": [*schemes, None]}, by_type]}


def _parts(kind: Any) -> Iterator[tuple[str, Schema]]:
    """The options of each injector, loss or evaluator; those that all have stand once."""
    name, common = kind.registry.kind, properties(kind)
    yield f"every_{name}", {"description": summary(kind), "properties": common}
    shared = {option: ref(f"every_{name}", option) for option in common}
    yield name, _by_name("type", name, kind.registry)
    for part, cls in _ours(kind.registry):
        own = properties(cls, _python_names(kind))
        needed = required(cls, _python_names(kind))
        yield _def(name, part), mapping({"type": {"const": part}, **own, **shared}, summary(cls), needed)


def _python_names(kind: Any) -> set[str]:
    return {field.name for field in kind.options()}


def _networks() -> Iterator[tuple[str, Schema]]:
    """The options of each network: at the top, where it has a role and a place, and within others."""
    common = properties(NetworkOptions, ("kwargs",))
    yield "every_network", {"description": summary(NetworkOptions), "properties": common}
    around = {option: ref("every_network", option) for option in common}
    yield "network", _by_name("which_model", "network", parts.networks)
    yield "network_within", _by_name("which_model", "network_within", parts.networks)
    for name, cls in _ours(parts.networks):
        yield _def("network_kwargs", name), mapping(properties(cls), more=others(cls))
        own = {option: ref(_def("network_kwargs", name), option) for option in properties(cls)}
        inside = {"which_model": {"const": name}, "kwargs": ref(_def("network_kwargs", name)), **own}
        elsewhere = {"anyOf": [{"required": ["kwargs"]}, {"required": required(cls)}]}
        for kind, more in (("network", around), ("network_within", {})):
            yield _def(kind, name), mapping({**inside, **more}, summary(cls), (), others(cls)) | elsewhere


def _datasets() -> Iterator[tuple[str, Schema]]:
    """The options of each dataset: at the top, where it is cut into batches, and within others."""
    yield "every_dataset", {"description": summary(DatasetOptions), "properties": properties(DatasetOptions)}
    around = {option: ref("every_dataset", option) for option in properties(DatasetOptions)}
    yield "dataset", _by_name("mode", "dataset", parts.datasets)
    yield "dataset_within", _by_name("mode", "dataset_within", parts.datasets, parts.DatasetChoice.default)
    for name, cls in _ours(parts.datasets):
        own = {"mode": {"const": name}, **properties(cls)}
        for kind, more in (("dataset", around), ("dataset_within", {})):
            yield _def(kind, name), mapping({**own, **more}, summary(cls), required(cls), others(cls))


def _schedule() -> Schema:
    """A number over the run: `{<kind>: {...}}`, or the ancestor's `{type: <kind>, ...}`."""
    ways = []
    for name, cls in Schedule.kinds.items():
        whole = options(cls)
        typed = {"type": {"const": name}, **whole["properties"]}
        ways += [mapping({name: whole}, summary(cls), [name]), mapping(typed, summary(cls), ["type", *required(cls)])]
    return {"description": "a number that changes over the run", "anyOf": ways}


def _whole() -> Schema:
    """What a file by itself cannot do without."""
    typed = {"additionalProperties": {"required": ["type"]}}
    step = {"required": required(StepOptions), "properties": {"injectors": typed, "losses": typed}}
    return {
        "required": ["name", "networks"],
        "anyOf": [
            {"required": ["train", "steps"]},
            {"required": ["steps", "eval"], "properties": {"eval": {"required": ["output_state"]}}},
            {"required": ["eval"], "properties": {"eval": {"required": ["output_state", "injectors"]}}},
        ],
        "properties": {
            "train": {"required": required(Train)},
            "networks": {"additionalProperties": {"required": ["which_model"]}},
            "datasets": {"additionalProperties": {"required": ["mode"]}},
            "steps": {"additionalProperties": step},
            "eval": {"properties": {"injectors": typed, "evaluators": typed}},
        },
    }


def _known() -> Iterator[tuple[str, Schema]]:
    """The types that there are without plugins, at every depth."""
    kinds: dict[str, tuple[Registry[Any], str]] = {
        "network_within": (parts.networks, "which_model"),
        "dataset_within": (parts.datasets, "mode"),
        **{kind.registry.kind: (kind.registry, "type") for kind in _PARTS},
    }
    for kind, (registry, key) in kinds.items():
        held = {name: schema for _, cls in _ours(registry) for name, schema in properties(cls).items()}
        within = {name: known for name, schema in held.items() if (known := _known_in(schema, kinds)) != schema}
        yield f"known_{kind}", {"properties": {**within, key: {"enum": [name for name, _ in _ours(registry)]}}}
    calls = {"injectors": _all_known("injector"), "losses": _all_known("loss")}
    measured = {"injectors": _all_known("injector"), "evaluators": _all_known("evaluator")}
    yield (
        "known",
        {
            "properties": {
                "networks": _all_known("network_within"),
                "datasets": _all_known("dataset_within"),
                "steps": {"additionalProperties": {"properties": calls}},
                "eval": {"properties": measured},
            },
        },
    )


def _all_known(kind: str) -> Schema:
    return {"additionalProperties": ref(f"known_{kind}")}


def _known_in(schema: Any, kinds: Collection[str]) -> Any:
    """A schema that asks of what it refers to that its type be known, too."""
    if isinstance(schema, list):
        return [_known_in(item, kinds) for item in schema]
    if not isinstance(schema, dict):
        return schema
    target = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    return ref(f"known_{target}") if target in kinds else {key: _known_in(item, kinds) for key, item in schema.items()}


def _by_name(key: str, kind: str, registry: Registry[Any], default: str | None = None) -> Schema:
    """A mapping whose options follow from a name in it; of a name that only a plugin knows, everything goes."""
    names = [name for name, _ in _ours(registry)]
    rules = [{"if": _is(key, name, name == default), "then": ref(_def(kind, name))} for name in names]
    return {"type": "object", "properties": {key: _names(names)}, "allOf": rules}


def _is(key: str, value: str, default: bool = False) -> Schema:
    """Whether an option has a value; a default is had by being left out."""
    return {"properties": {key: {"const": value}}} | ({} if default else {"required": [key]})


def _names(names: Iterable[str]) -> Schema:
    return {"anyOf": [{"enum": list(names)}, {"type": "string"}]}


def _named(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _one_or_several(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "array", "items": schema}]}


def _or_nothing(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _def(kind: str, name: str) -> str:
    return f"{kind}.{name}"


def _ours(registry: Registry[Any]) -> list[tuple[str, Callable[..., Any]]]:
    """What Gradloom itself has."""
    found = ((name, registry.classes[name]) for name in registry.discover())
    return [(name, cls) for name, cls in found if cls.__module__.startswith("gradloom.")]
