"""Plans for tests: from YAML text, or put together from calls."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradloom
from gradloom.config.document import Document
from gradloom.config.node import Node
from gradloom.config.sections import Sections, Train
from gradloom.errors import Mark
from gradloom.gates import Gate
from gradloom.injectors.generator import Generator
from gradloom.losses.direct import Direct
from gradloom.parts import Injector, Loss
from gradloom.plan.plan import Call, Network, Plan, Recipe, Step

NOWHERE = Mark("x.yml", 0, 0)


def load(folder: Path, text: str, *overrides: str) -> Plan:
    file = folder / "x.yml"
    file.write_text(text)
    return gradloom.load(file, overrides)


def refused(folder: Path, text: str, *overrides: str) -> list[str]:
    """The messages that an options file is refused with, without the folder."""
    try:
        load(folder, text, *overrides)
    except gradloom.OptionsError as error:
        return [str(fault).replace(f"{folder}/", "") for fault in error.faults]
    return []


def node(path: str) -> Node:
    return Node({}, NOWHERE, path)


def injector(
    path: str, reads: Iterable[str], writes: Iterable[str], network: str = "n", **options: Any
) -> Call[Injector]:
    part = Generator(generator=network, in_=list(reads), out=tuple(writes), **options)
    return Call(part, node(path))


def loss(path: str, key: str, **options: Any) -> Call[Loss]:
    return Call(Direct(key=key, **options), node(path))


def step(
    name: str,
    injectors: Iterable[Call[Injector]],
    losses: Iterable[Call[Loss]],
    trains: tuple[str, ...] = ("n",),
    gate: Gate = Gate(),  # noqa: B008, it is frozen
) -> Step:
    return Step(name, node(f"steps.{name}"), trains, gate, None, None, tuple(injectors), tuple(losses))


def plan(steps: Iterable[Step], **gates: Gate) -> Plan:
    """A plan of these steps and of networks with these gates."""
    recipe = Recipe(dict, {}, node("networks"))
    return Plan(
        document=Document(Path("x.yml")),
        sections=Sections(name="x", train=Train(niter=1)),
        networks={name: Network(name, "dict", recipe, gate=gate) for name, gate in gates.items()},
        steps=tuple(steps),
        measures=(),
        datasets={},
        given=(),
        lr_scheme=None,
    )
