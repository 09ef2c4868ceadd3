"""In every mapping of the ancestor's recipes a key that nobody knows is a fault, at its place, with what was meant."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import gradloom

FILES = sorted(Path(__file__).parent.glob("*.yml"))
SLIP = "waight_decai"
FREE = ("model_input_keys", "fixed_parameters")  # their keys are the user's own


def mappings(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and (not path or path[-1] not in FREE):
        yield path
        for key, child in value.items():
            yield from mappings(child, (*path, key))


def with_slip(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    if path:
        return {**tree, path[0]: with_slip(tree[path[0]], path[1:])}
    return {**tree, SLIP: 1}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_slip_is_refused_wherever_it_stands(file: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(file.read_text())
    accepted = []
    for path in mappings(tree):
        changed = tmp_path / "x.yml"
        changed.write_text(yaml.safe_dump(with_slip(tree, path), sort_keys=False))
        try:
            gradloom.load(changed)
            accepted.append(".".join(path))
        except gradloom.OptionsError as error:
            if not any(SLIP in f"{fault.path} {fault.message}" for fault in error.faults):
                accepted.append(f"{'.'.join(path)} (told of something else)")
    assert accepted == []
