"""How whole networks, datasets and parts of the ancestor's shapes are mended."""

from dataclasses import replace
from typing import Any

from gradloom.config.mending import Fields, Mend, move_under
from gradloom.config.node import Node, join

_MODELS = ("which_model", "which_model_G", "which_model_D")


def of(model: str, mend: Mend) -> Mend:
    """Mend the options of one network only."""

    def mend_if(fields: Fields, key: str) -> str:
        named = fields.get("which_model")
        return mend(fields, key) if named and named.value == model else ""

    return mend_if


def start_part(part: str) -> Mend:
    """Let a part of the network start from the weights that the option names."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        if node.value is None:
            return ""
        fields[part] = node
        return move_under("pretrained_parts")(fields, part)

    return mend


def into_networks(model: str, option: str) -> Mend:
    """Give an option to each network of a kind that does not say it; silently none where there is no such network."""

    def mend(fields: Fields, key: str) -> str:
        entries = dict(fields["networks"].fields) if "networks" in fields else {}
        meant = {
            name: entry for name, entry in entries.items() if _model(entry) == model and option not in entry.fields
        }
        for name, entry in meant.items():
            given = fields[key].at(join(entry.path, option))
            entries[name] = replace(entry, value={**entry.fields, option: given})
        if meant:
            fields["networks"] = replace(fields["networks"], value=entries)
            del fields[key]
        return f"read as networks.{', '.join(meant)}.{option}" if meant else ""

    return mend


def _model(network: Node) -> Any:
    return next((network.fields[key].value for key in _MODELS if key in network.fields), None)


_AROUND = {"type", "weight", "after", "before", "every", "train", "eval", "grad", "no_grad", "no_accum"}


def nest(**own: set[str]) -> Mend:
    """Put the options of a part within a part under `part`, for the types that have one; their own ones stay."""

    def mend(fields: Fields, key: str) -> str:
        outer = fields["type"].value if "type" in fields else None
        if not isinstance(outer, str) or outer not in own:
            return ""
        node = fields[key]
        moved = {option: fields.pop(option) for option in [*fields] if option not in _AROUND | own[outer]}
        moved = {"type": moved.pop(key), **moved}
        path = join(node.path.rpartition(".")[0], "part")
        fields["part"] = Node(moved, node.mark, path).at(path)
        return f"read as part: {{type: {node.value}, {', '.join([*moved][1:])}}}"

    return mend


def hand_down(kind: str, *options: str) -> Mend:
    """Move options of a part of one type into each of the parts within it, unless they have such ones themselves."""

    def mend(fields: Fields, key: str) -> str:
        moved = [option for option in options if option in fields]
        if fields.get("type") is None or fields["type"].value != kind or not moved or not fields[key].fields:
            return ""
        given = {option: fields.pop(option) for option in moved}
        within = {}
        for name, part in fields[key].fields.items():
            more = {option: node.at(join(part.path, option)) for option, node in given.items()}
            within[name] = replace(part, value={**more, **part.fields}) if isinstance(part.value, dict) else part
        fields[key] = replace(fields[key], value=within)
        return f"each of them takes {' and '.join(map(repr, moved))} from around them"

    return mend


def of_modes(*modes: str, mend: Mend) -> Mend:
    """Mend datasets of some modes only, as others may have an option of that name."""

    def mend_some(fields: Fields, key: str) -> str:
        return mend(fields, key) if "mode" in fields and fields["mode"].value in modes else ""

    return mend_some


_UNSCALED = ("random_dataset", "stylegan2", "torch_dataset", "zipfile")
"""Datasets that know no `scale`."""


def into_datasets(fields: Fields, key: str) -> str:
    """Give the option to each dataset within a dataset that does not say it."""
    node = fields.pop(key)
    for name, inner in fields.items():
        mode = inner.get("mode")
        if isinstance(inner.value, dict) and key not in inner.value and (mode is None or mode.value not in _UNSCALED):
            fields[name] = replace(inner, value={**inner.value, key: node.at(join(inner.path, key))})
    return f"read as *.{key}"


def a_dataset(phase: str) -> Mend:
    """Put a dataset at the top among the datasets, its mode being what it is for."""

    def mend(fields: Fields, key: str) -> str:
        path = f"datasets.{phase}"
        node = fields.pop(key).at(path)
        if isinstance(node.value, dict) and "mode" not in node.value:
            node = replace(node, value={"mode": Node(phase, node.mark, f"{path}.mode"), **node.value})
        datasets = fields.get("datasets") or Node({}, node.mark, "datasets")
        fields["datasets"] = replace(datasets, value={**datasets.fields, phase: node})
        return f"read as {path}"

    return mend
