"""Make the pieces of a plan from nodes: networks, datasets, steps and their parts, each checked by itself."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from gradloom.config.binding import judged, make
from gradloom.config.names import check_files, check_name
from gradloom.config.node import Node, children
from gradloom.config.sections import Sections
from gradloom.errors import Fault, suggest
from gradloom.gates import Gate
from gradloom.parts import TRAINED, Injector, Loss, Part, Port, hooks, keys_in
from gradloom.plan.datasets import bind_dataset
from gradloom.plan.networks import bind_network
from gradloom.plan.optimizers import bind_lr_scheme, bind_optimizer, check_starts
from gradloom.plan.options import StepOptions
from gradloom.plan.plan import Call, Recipe, Step
from gradloom.plan.recipes import bind_recipe
from gradloom.plan.unused import unused_rates

P = TypeVar("P", bound=Part)


class Assumed:
    """The keys that parts with faults seem to write, `x` and what begins with `x_`: all, where that cannot be seen."""

    def __init__(self) -> None:
        self.keys, self.all = set[str](), False

    def __contains__(self, key: object) -> bool:
        return self.all or any(f"{key}_".startswith(f"{name}_") for name in self.keys)

    def add(self, part: Node) -> None:
        """Note what a part with faults seems to write."""
        outputs = [child for option, child in part.fields.items() if option.startswith("out")]
        names = {key for child in outputs for key in keys_in(child.plain())}
        self.keys |= names
        self.all |= not names


class Pieces:
    """What a file declares, and what is wrong with it, piece by piece.

    A piece with faults is left out and the rest still looked at: one mistake gives one message, and all are found.
    """

    def __init__(self, root: Node, bound: Sections) -> None:
        self.root, self.sections = root, bound
        self.faults: list[Fault] = []
        self.notices: list[Fault] = []
        self.assumed = Assumed()
        self.broken: set[str] = set()  # paths of the steps that have parts with faults
        self.step_nodes = dict(children(root, "steps"))
        self.trained = {name for node in self.step_nodes.values() for name in _names(node.get("training"))}
        self.networks = {
            name: bind_network(name, node, bound, self.faults) for name, node in children(root, "networks")
        }
        check_files(dict(children(root, "networks")), self.faults)
        self.check_pretrained()
        self.datasets = {
            phase: bind_dataset(phase, node, bound, self.faults) for phase, node in children(root, "datasets")
        }
        self.hooks = {name: self.hook(name, node) for name, node in children(root, "hooks")}
        self.steps = _with_owners([self.step(name, node) for name, node in self.step_nodes.items()])
        self.measuring = self.calls(Injector, root.get("eval"), "injectors", ())

    def hook(self, name: str, node: Node) -> Recipe | None:
        """What a plugin does besides training."""
        check_name(name, node, self.faults)
        if not isinstance(node.value, dict):
            self.faults.append(node.fault(f"expected options such as 'type', got {node.show()}"))
            return None
        cls = hooks.choose(node, "type", self.faults)
        return bind_recipe(cls, node, self.faults, {"type"}) if cls else None

    def step(self, name: str, node: Node) -> Step:
        check_name(name, node, self.faults)
        options = make(StepOptions, _shallow(node), self.faults)
        fields = node.fields
        trains = _names(fields.get("training"))
        self.check_trains_some(node, trains)
        for network in dict.fromkeys(trains):
            if trains.count(network) > 1:
                self.faults.append(fields["training"].fault(f"{network!r} is there more than once; name it once"))
            self.check_trained(network, fields["training"].find(network) or fields["training"])
        optimizer = None
        if "optimizer_params" in fields:
            optimizer = bind_optimizer(fields.get("optimizer"), fields["optimizer_params"], self.faults)
        if options is None:
            options = StepOptions(training=[])
            self.broken.add(node.path)
            self.assumed.all |= not children(node, "injectors")
        self.check_updater(node)
        gate = Gate(options.after, options.before, options.every)
        return Step(
            name=name,
            node=node,
            trains=tuple(trains),
            gate=gate & optimizer.gate if optimizer else gate,
            supplies=replace(gate, every=1),
            optimizer=optimizer,
            optimizer_of=options.optimizer_of,
            injectors=self.calls(Injector, node, "injectors", trains),
            losses=self.calls(Loss, node, "losses", trains),
            clip_grad_norm=options.clip_grad_norm or None,
            clip_grad_eps=options.clip_grad_eps or None,
            outputs=None if options.step_outputs is None else tuple(keys_in(options.step_outputs)),
        )

    def lr_scheme(self) -> Recipe | None:
        train = self.root.get("train")
        if train is None or "train" in self.sections.faulty:
            return None
        scheme = bind_lr_scheme(train.get("default_lr_scheme"), self.sections.train, self.faults)
        if scheme:
            check_starts(scheme, self.steps, self.faults)
        self.notices += unused_rates(train, self.sections.train)
        return scheme

    def calls(self, kind: type[P], node: Node | None, key: str, trains: Iterable[str]) -> tuple[Call[P], ...]:
        """Make the parts of one kind; one with faults is left out, so that the others are still checked."""
        calls = []
        for name, child in children(node, key):
            found: list[Fault] = []
            check_name(name, child, found)
            cls = kind.registry.choose(child, "type", found) if isinstance(child.value, dict) else None
            if not isinstance(child.value, dict):
                found.append(child.fault(f"expected options such as 'type', got {child.show()}"))
            part = make(cls, child, found, {"type"}) if cls else None
            if part is not None:
                self.name_trained(part, child, list(trains), found)
                call: Call[P] = Call(part, child)
                if not _names_told(call, found):
                    self.faults += found
                    continue
                for network in call.networks:
                    if network in self.networks or network not in {*trains, TRAINED}:  # otherwise that has been said
                        self.check_called(network, call, found)
                _check_named(call, found)
                calls.append(call)
            if found:
                self.broken.add(node.path if node else "")
            if part is None and kind is Injector:
                self.assumed.add(child)
            self.faults += found
        return tuple(calls)

    def name_trained(self, part: Part, node: Node, trains: list[str], faults: list[Fault]) -> None:
        """Put the network that the step trains where a port, or one of a part within, left it open."""
        for inner in part.inner():
            self.name_trained(inner, node, trains, faults)
        for option, port in part.ports.items():
            if port is Port.NET and getattr(part, option) == TRAINED:
                if len(trains) == 1:
                    setattr(part, option, trains[0])
                elif trains:
                    names = ", ".join(trains)
                    faults.append(node.fault(f"option {option.rstrip('_')!r} is needed, as the step trains {names}"))

    def check_called(self, name: str, call: Call[Any], faults: list[Fault]) -> None:
        """See that there is a network, or an average, of a name that a part calls."""
        base, dot, suffix = name.partition(".")
        if base not in self.networks or (dot and suffix != "ema"):
            known = [*self.networks, *(f"{network}.ema" for network in self.networks)] if dot else self.networks
            self.unknown_network(name, call.place(name), known, faults)
        elif dot and (network := self.networks[base]) and not (network.ema and base in self.trained):
            why = "give it 'ema: true', and train 'ema_enabled: true'" if base in self.trained else "no step trains it"
            faults.append(call.fault(f"{base!r} has no average; {why}", name))

    def check_trains_some(self, node: Node, trains: Iterable[str]) -> None:
        """See that a step names a network if it has what it takes to train one."""
        training = node.get("training")
        if training is None or trains or not (children(node, "losses") or "optimizer_params" in node.fields):
            return
        if isinstance(training.value, str | list) and all(name.value == "None" for name in training.items):
            self.faults.append(training.fault("it names no network, so the step would train nothing; name one"))

    def check_trained(self, name: str, node: Node) -> None:
        """See that a network that a step names may be trained."""
        if name.endswith(".ema"):
            self.faults.append(node.fault(f"{name!r} is an average, which follows what is trained; name the network"))
        elif name not in self.networks:
            self.unknown_network(name, node, self.networks, self.faults)
        elif (network := self.networks[name]) and not network.trainable:
            self.faults.append(node.fault(f"{name!r} has 'trainable: false'; train it or leave it out here"))

    def check_updater(self, node: Node) -> None:
        """A step with losses has an optimizer of its own, or another step's, and not both."""
        place = node.get("optimizer_of")
        if place is not None and isinstance(other := place.value, str):
            if "optimizer_params" in node.fields:
                self.faults.append(place.fault("it has 'optimizer_params' too; keep one of them"))
            if other not in self.step_nodes:
                self.faults.append(place.fault(f"no step is called {other!r}; {suggest(other, self.step_nodes)}"))
            elif "optimizer_params" not in self.step_nodes[other].fields:
                self.faults.append(place.fault(f"{other!r} has no 'optimizer_params'; name a step that has"))
            elif not {*_names(node.get("training"))} <= {*_names(self.step_nodes[other].get("training"))}:
                self.faults.append(place.fault(f"{other!r} does not train the same networks; name a step that does"))
        elif children(node, "losses") and "optimizer_params" not in node.fields and node.path not in self.broken:
            self.faults.append(
                node.fault("it has losses but no optimizer, so it would train nothing; add optimizer_params: {lr: ...}")
            )

    def unknown_network(self, name: str, node: Node, known: Iterable[str], faults: list[Fault]) -> None:
        """Say that there is no such network, unless it is the whole section that is wrong."""
        section = self.root.get("networks")
        if section is not None and isinstance(section.value, dict):
            faults.append(node.fault(f"no network is called {name!r}; {suggest(name, known)}"))

    def check_pretrained(self) -> None:
        for name, pretrained in self.sections.pretrained.items():
            if name not in self.networks:
                self.unknown_network(name, pretrained.node, self.networks, self.faults)


def _names_told(call: Call[Any], faults: list[Fault]) -> bool:
    """Whether a part says the keys and networks that are its own."""
    before = len(faults)
    with judged(call.node, faults):
        for method, names in (("reads", call.reads), ("writes", call.writes), ("networks", call.networks)):
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                faults.append(call.fault(f"{method}() returns a tuple of names, got {names!r}"))
    return len(faults) == before


def _check_named(call: Call[Any], faults: list[Fault]) -> None:
    """See that what a part writes and calls has a name."""
    for place in call.places(Port.WRITE, Port.NET):
        if nothing := place.find("None"):
            faults.append(nothing.fault("the word 'None' stands for nothing; write a name"))
        elif place.value == []:
            faults.append(place.fault("the list is empty; write a name"))


def _with_owners(steps: list[Step]) -> list[Step]:
    """Open the gate of a step that updates with another's optimizer only when that optimizer may act."""
    owners = {step.name: step.optimizer.gate for step in steps if step.optimizer}
    return [replace(step, gate=step.gate & owners.get(step.optimizer_of or "", Gate())) for step in steps]


def _shallow(node: Node) -> Node:
    """A step without what its sections hold, which is checked on its own."""
    if not isinstance(node.value, dict):
        return node
    inner = ("injectors", "losses", "optimizer_params")
    return replace(
        node,
        value={
            key: replace(child, value={}) if (child.fields and key in inner) or key == "optimizer_params" else child
            for key, child in node.value.items()
        },
    )


def _names(node: Node | None) -> list[str]:
    """One name or several."""
    return list(keys_in(node.plain())) if node else []
