"""Gradloom trains networks from a YAML file of networks, steps, injectors, losses and evaluators."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradloom.version import __version__ as __version__

if TYPE_CHECKING:
    from gradloom import datasets, networks
    from gradloom.engine.hooks.hook import Hook, Run
    from gradloom.engine.saving.loading import load_network
    from gradloom.engine.trainer import Trainer
    from gradloom.engine.trainer import Trainer as ExtensibleTrainer
    from gradloom.errors import Diverged, Fault, Mark, OptionsError, RunError
    from gradloom.parts import (
        TRAINED,
        Arguments,
        DatasetChoice,
        Evaluator,
        Injector,
        Inner,
        Loss,
        Need,
        Net,
        NetworkChoice,
        Read,
        Scheduled,
        Shown,
        Write,
    )
    from gradloom.plan.compile import load
    from gradloom.plan.plan import Plan

__all__ = [
    "TRAINED", "Arguments", "DatasetChoice", "Diverged", "Evaluator", "ExtensibleTrainer", "Fault", "Hook", "Injector",
    "Inner", "Loss", "Mark", "Need", "Net", "NetworkChoice", "OptionsError", "Plan", "Read", "Run", "RunError",
    "Scheduled", "Shown", "Trainer", "Write", "datasets", "load", "load_network", "networks",
]  # fmt: skip

_HOMES = {
    "gradloom.engine.hooks.hook": ("Hook", "Run"),
    "gradloom.engine.saving.loading": ("load_network",),
    "gradloom.engine.trainer": ("Trainer",),
    "gradloom.errors": ("Diverged", "Fault", "Mark", "OptionsError", "RunError"),
    "gradloom.parts": (
        "TRAINED", "Arguments", "DatasetChoice", "Evaluator", "Injector", "Inner", "Loss", "Need", "Net",
        "NetworkChoice", "Read", "Scheduled", "Shown", "Write",
    ),
    "gradloom.plan.compile": ("load",),
    "gradloom.plan.plan": ("Plan",),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that reading options does not import torch."""
    if name in ("datasets", "networks"):
        return import_module(f"gradloom.{name}")
    wanted = "Trainer" if name == "ExtensibleTrainer" else name
    for home, names in _HOMES.items():
        if wanted in names:
            value = getattr(import_module(home), wanted)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'gradloom' has no attribute {name!r}")
