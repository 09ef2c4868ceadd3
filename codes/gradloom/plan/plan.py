"""What will happen: every part, network and step of a run, decided before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from gradloom.config.document import Document
from gradloom.config.node import Node
from gradloom.config.schedules import Scheduled
from gradloom.config.sections import Pretrained, Sections
from gradloom.errors import Fault
from gradloom.gates import Gate
from gradloom.parts import Evaluator, Injector, Loss, Part, Port
from gradloom.plan.program import Program, program

P_co = TypeVar("P_co", bound=Part, covariant=True)


@dataclass(frozen=True, eq=False)
class Call(Generic[P_co]):
    """A part with its place in the plan and in the options."""

    part: P_co
    node: Node

    @property
    def path(self) -> str:
        """The dotted path in the options, such as `steps.gen.losses.pix`."""
        return self.node.path

    @property
    def name(self) -> str:
        """The name in the options, such as `pix`."""
        return self.node.path.rpartition(".")[2]

    @cached_property
    def where(self) -> str:
        """The path and the place in the file, such as `steps.gen.losses.pix (x.yml:12:7)`."""
        return f"{self.node.path} ({self.node.mark})"

    @cached_property
    def reads(self) -> tuple[str, ...]:
        return self.part.reads()

    @cached_property
    def writes(self) -> tuple[str, ...]:
        return self.part.writes()

    @cached_property
    def networks(self) -> tuple[str, ...]:
        return self.part.networks()

    @cached_property
    def gate(self) -> Gate:
        return self.part.gate

    def place(self, word: str, first: Port | None = None) -> Node:
        """Where the part names a key or a network, sought `first` at such ports; else the part itself."""
        options = (*self.places(*([first] if first else [])), *self.places(*Port), *self.node.fields.values())
        return next((found for option in options if (found := option.find(word))), self.node)

    def places(self, *ports: Port) -> tuple[Node, ...]:
        """The options that are ports of some kinds, those of parts within among them."""
        return tuple(_places(self.part, self.node, ports))

    def fault(self, message: str, word: str = "") -> Fault:
        """Say something of the part, or of a key or network that it names."""
        return (self.place(word) if word else self.node).fault(message)

    def fresh(self, copies: dict[int, Any]) -> Call[P_co]:
        """The same call of a part of its own, for one trainer to change; parts that have been copied are not again."""
        return replace(self, part=deepcopy(self.part, copies))


def _places(part: Part, node: Node, ports: Collection[Port]) -> Iterator[Node]:
    for name, port in part.ports.items():
        option = node.get(name.rstrip("_"))
        if option is None:
            continue
        if port in ports:
            yield option
        for key, inner in part.parts_at(name).items():
            yield from _places(inner, option.fields[key] if key else option, ports)


@dataclass(frozen=True)
class Recipe:
    """Something to build later: what makes it, and the arguments that the options gave."""

    make: Callable[..., Any]
    arguments: Mapping[str, Any]
    node: Node

    def build(self, *runtime: Any) -> Any:
        return self.make(*runtime, **self.arguments)


@dataclass(frozen=True)
class Network:
    """A network to be built: whether and when it may be trained, and what it starts from."""

    name: str
    which_model: str
    recipe: Recipe
    role: str | None = None  # such as "generator", where the options name one
    trainable: bool = True
    ema: bool = True
    sync_batchnorm: Node | None = None  # the option, where it asks for statistics over all processes
    gate: Gate = Gate()
    checkpointing: bool = False  # whether its blocks are computed anew in backward passes
    asks_checkpointing: Node | None = None  # where its own options say so
    pretrained: Pretrained | None = None
    pretrained_parts: tuple[Pretrained, ...] = ()  # which come first
    spread: Node | None = None  # where its options say that each process is to hold a part of it

    @property
    def starts(self) -> tuple[Pretrained, ...]:
        """The weights that it starts from, in the order in which they are loaded."""
        return (*self.pretrained_parts, *([self.pretrained] if self.pretrained else []))

    @property
    def options(self) -> Mapping[str, Any]:
        """Its own options, as the file says them."""
        options: Mapping[str, Any] = self.recipe.node.plain()
        return options


@dataclass(frozen=True)
class Dataset:
    """A dataset to be built, and how it is cut into batches."""

    phase: str
    mode: str
    recipe: Recipe
    keys: tuple[str, ...] | None  # None where the class does not say
    batch_size: int  # of all processes together, or of each of them
    workers: int
    pin_memory: bool
    max_bad: int = 0  # samples that may turn out unusable
    drop_last: bool = True  # whether an epoch ends with its last whole batch
    per_process: bool = False  # whether `batch_size` is that of each process

    def batch(self, processes: int) -> int:
        """How many samples a batch of so many processes has."""
        return self.batch_size * (processes if self.per_process else 1)

    def batch_fault(self, message: str) -> Fault:
        """Say something of the size of its batches."""
        node = self.recipe.node
        return (node.get("batch_size_per_process") or node.get("batch_size") or node).fault(message)


@dataclass(frozen=True)
class Group:
    """Parameters that have a learning rate of their own."""

    name: str
    lr: Scheduled
    patterns: tuple[str, ...]  # of their names; none where they are told by their attribute
    node: Node


@dataclass(frozen=True)
class Optimizer:
    """An optimizer to be built over the networks of a step."""

    recipe: Recipe
    lr: Scheduled
    weight_decay: float | None  # None where the optimizer knows none
    gate: Gate
    offload: bool = False  # whether its state is in host memory
    parted: bool = False  # whether each process has a part of its state
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Step:
    """One forward, backward and update of the networks it trains."""

    name: str
    node: Node
    trains: tuple[str, ...]
    gate: Gate  # in which iterations it trains
    optimizer: Optimizer | None
    optimizer_of: str | None
    injectors: tuple[Call[Injector], ...]
    losses: tuple[Call[Loss], ...]
    clip_grad_norm: float | None = None  # over all the step's parameters at once
    clip_grad_eps: float | None = None  # over each parameter group by itself, as the ancestor
    outputs: tuple[str, ...] | None = None  # of what it writes, what later steps may read; None is all
    supplies: Gate = Gate()  # in which iterations it writes what others require, whether it trains or not

    @cached_property
    def where(self) -> str:
        """The path and the place in the file."""
        return f"{self.node.path} ({self.node.mark})"

    def shows(self, key: str) -> bool:
        """Whether later steps may read a key that it writes."""
        return self.outputs is None or key in self.outputs

    @property
    def updater(self) -> str | None:
        """The step whose optimizer acts on the gradients."""
        return self.optimizer_of or (self.name if self.optimizer else None)


def _gives_way(call: Call[Injector], other: Call[Injector], iteration: float) -> bool:
    """Whether two take turns in writing a key, and it is the other's turn."""
    if not {*call.writes} & {*other.writes} or not call.gate.excludes(other.gate):
        return False
    first, second = sorted((call, other), key=lambda one: one.gate.after)
    return call is (first if second.gate.after <= iteration else second)


@dataclass(frozen=True)
class Measure:
    """Evaluators that look at the same samples of the same networks, and the only injectors they need."""

    calls: tuple[Call[Evaluator], ...]
    injectors: tuple[Call[Injector], ...]
    inputs: tuple[str, ...]  # the keys of a validation batch that are needed
    stands_in: str | None  # such as `generator.ema`, which is called where `generator` is named
    samples: int | None  # None is the whole dataset, once
    phase: str = "val"  # of which dataset: the validation set, or one of an evaluator's own

    def at(self, iteration: float) -> tuple[Call[Injector], ...]:
        """The injectors after so many iterations: of those that take turns in writing a key, the last that began."""
        calls = self.injectors
        return tuple(one for one in calls if not any(_gives_way(one, other, iteration) for other in calls))


@dataclass(frozen=True)
class Application:
    """What becomes of datasets without training: the key that is written as images, and how it is made."""

    output: str
    passes: Mapping[str, Measure]  # for each dataset, with no evaluators
    faults: tuple[Fault, ...] = ()  # why it cannot be, where training can


@dataclass(frozen=True)
class Plan:
    """A whole run: of training, unless the file has no section for it, and of what is written afterwards."""

    document: Document
    sections: Sections
    networks: Mapping[str, Network]
    steps: tuple[Step, ...]
    measures: tuple[Measure, ...]
    datasets: Mapping[str, Dataset]
    given: tuple[str, ...]  # the keys of a training batch, as far as they are known
    lr_scheme: Recipe | None
    hooks: Mapping[str, Recipe] = field(default_factory=dict)  # of plugins
    notices: tuple[Fault, ...] = ()
    application: Application | None = None  # where eval.output_state says what to write
    _programs: dict[Any, Program] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.sections.name

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the networks and steps as the file has them."""
        root = self.document.root
        told = {key: root.fields[key].plain() for key in ("networks", "steps") if key in root.fields} if root else {}
        return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()

    def program(self, iteration: int, keep: frozenset[str] = frozenset()) -> Program:
        """What runs in an iteration, with the keys in `keep` still there at its end.

        It depends on which gates are open, and is worked out once for each combination.
        """
        pattern = (keep, tuple(gate.open(iteration) for gate in self._gates))
        if pattern not in self._programs:
            self._programs[pattern] = program(self, iteration, keep)
        return self._programs[pattern]

    @cached_property
    def _gates(self) -> tuple[Gate, ...]:
        """Every gate that is not always open."""
        calls = [call for step in self.steps for call in (*step.injectors, *step.losses)]
        gates = [call.gate for call in calls] + [step.gate for step in self.steps]
        gates += [network.gate for network in self.networks.values()]
        return tuple({gate: None for gate in gates if not gate.always})

    def fresh(self) -> Plan:
        """The same plan with parts of its own, for one trainer to change; a call stays one call wherever it stands."""
        copies: dict[Call[Any], Call[Any]] = {}
        parts: dict[int, Any] = {}

        def own(calls: Iterable[Call[Any]]) -> tuple[Call[Any], ...]:
            return tuple(copies.setdefault(call, call.fresh(parts)) for call in calls)

        steps = [replace(step, injectors=own(step.injectors), losses=own(step.losses)) for step in self.steps]
        measures = [replace(one, calls=own(one.calls), injectors=own(one.injectors)) for one in self.measures]
        applied = self.application
        if applied:
            passes = {phase: replace(one, injectors=own(one.injectors)) for phase, one in applied.passes.items()}
            applied = replace(applied, passes=passes)
        return replace(self, steps=tuple(steps), measures=tuple(measures), application=applied, _programs={})
