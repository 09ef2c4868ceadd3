"""A module of an extension folder is named like the one type it defines, or begins with an underscore."""

import pkgutil
from importlib import import_module

import pytest

from gradloom import parts
from gradloom.parts import Evaluator, Injector, Loss
from gradloom.registry import Registry


@pytest.mark.parametrize(
    "registry",
    [Injector.registry, Loss.registry, Evaluator.registry, parts.networks, parts.datasets, parts.optimizers],
    ids=lambda registry: registry.kind,
)
def test_each_file_is_named_like_its_type(registry: Registry[object]) -> None:
    assert registry.package is not None
    registry.discover()
    own = {name for name, make in registry.classes.items() if make.__module__.startswith("gradloom.")}
    modules = {module.name for module in pkgutil.iter_modules(import_module(registry.package).__path__)}
    absent = {*registry.unavailable}  # whose libraries are not installed
    assert own == {name for name in modules if not name.startswith("_")} - absent
