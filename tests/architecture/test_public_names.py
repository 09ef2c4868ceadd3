"""The names that Gradloom promises, and a docstring for everything that options can choose."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gradloom
from gradloom.parts import Evaluator, Injector, Loss, Part
from gradloom.parts import datasets as dataset_registry
from gradloom.parts import networks as network_registry
from gradloom.registry import Registry

CODES = Path(__file__).resolve().parents[2] / "codes"
REGISTRIES: list[Registry[object]] = [
    Injector.registry,
    Loss.registry,
    Evaluator.registry,
    network_registry,
    dataset_registry,
]
CLASSES = [
    pytest.param(cls, id=f"{registry.kind}-{name}")
    for registry in REGISTRIES
    for name in registry.discover()
    if (cls := registry.classes[name]).__module__.startswith("gradloom.")
]


def test_the_public_names_are_sorted_and_each_is_there() -> None:
    constants_then_classes = sorted(gradloom.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    assert list(gradloom.__all__) == constants_then_classes
    assert len(set(gradloom.__all__)) == len(gradloom.__all__)
    for name in gradloom.__all__:
        assert getattr(gradloom, name) is not None


@pytest.mark.parametrize("name", gradloom.__all__)
def test_every_public_name_is_explained(name: str) -> None:
    value = getattr(gradloom, name)
    if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
        assert inspect.getdoc(value)


def test_each_public_name_is_imported_on_its_own() -> None:
    script = "; ".join(["import gradloom", *(f"from gradloom import {name}" for name in gradloom.__all__)])
    subprocess.run([sys.executable, "-c", script], cwd=CODES, check=True)


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'gradloom' has no attribute 'train'"):
        gradloom.train  # noqa: B018


@pytest.mark.parametrize("cls", CLASSES)
def test_everything_that_options_can_choose_is_explained(cls: type) -> None:
    assert cls.__doc__
    first = cls.__doc__.strip().splitlines()[0]
    assert first.endswith((".", ":", ";"))
    assert not first.startswith(f"{cls.__name__}(")  # what a dataclass writes of itself


@pytest.mark.parametrize("cls", CLASSES)
def test_everything_stands_in_the_module_of_its_name(cls: type) -> None:
    names = {name for registry in REGISTRIES for name, other in registry.classes.items() if other is cls}
    assert cls.__module__.rpartition(".")[2] in names
    if issubclass(cls, Part):
        assert cls.type_name in names
