"""Choose how each network is laid out and run: as the options say, or by measuring once its inputs are known.

What is measured takes effect after the first iteration that calls a network, so that it does not depend on whether it
was measured now or remembered; a run that goes on from a checkpoint repeats the checkpoint's choice.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gradloom.config.sections import Speed
from gradloom.engine.precision import Precision
from gradloom.engine.recomputing import Recomputed
from gradloom.engine.speed.choice import Choice, Remembered
from gradloom.engine.speed.layout import follow, has_images, put_channels_last
from gradloom.engine.speed.trial import Inputs, Trial, gains
from gradloom.engine.world import World
from gradloom.plan.plan import Plan

_WORTH = {"cuda": 10e9}  # a pass of a network with fewer operations has nothing to gain; time would tell of the load
_WORTH_ELSEWHERE = 0.5e9
_COMPILE_PAYS_SECONDS = 600.0  # what a network still has to run, for a compilation of about a minute to pay


class Tuning:
    """The choices of a run, made once, and told."""

    def __init__(
        self, plan: Plan, networks: Mapping[str, nn.Module], averages: Mapping[str, nn.Module],
        optimizers: Iterable[Optimizer], world: World, tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._plan, self._networks, self._averages = plan, networks, averages
        self._optimizers, self._world = [*optimizers], world
        self._options = plan.sections.speeds
        losses = [part for step in plan.steps for call in step.losses for part in call.part.whole()]
        self._differentiated = {name for part in losses for name in part.twice()}
        self._learning = {
            name: [each for each, parameter in network.named_parameters() if parameter.requires_grad]
            for name, network in networks.items()
        }
        self.choices: dict[str, Choice] = {}
        self._tell = tell
        self._inputs: dict[str, Inputs] = {}
        self._with_gradients: set[str] = set()  # the networks among them whose inputs are of a call that wants any
        _set_precision(self._options, world.device, tell)
        told = {name: self._told(name) for name in networks}
        self.apply({name: choice for name, choice in told.items() if choice.channels_last or choice.compile})
        self._watching = {
            name: network.register_forward_pre_hook(self._note(name), with_kwargs=True)
            for name, network in networks.items()
            if self._open(name)
        }

    @property
    def pending(self) -> bool:
        """Whether a network has been called for the first time, for which there is something to choose."""
        return bool(self._inputs)

    def choose(self, precision: Precision, iterations: int) -> None:
        """Choose for the networks that were called for the first time; `iterations` are still to come."""
        self._stop_watching(self._inputs)
        remembered = Remembered(self._plan, self._world.device, {n: one.shapes() for n, one in self._inputs.items()})
        chosen: dict[str, Choice] = {}
        if self._world.writes:
            chosen = remembered.recall()
            if chosen.keys() != self._inputs.keys():
                with self._world.alone():
                    chosen = self._measure(precision, iterations)
                remembered.keep(chosen, self._tell)
        self.forget()
        self.apply(self._world.first(chosen))

    def forget(self) -> None:
        """Forget how networks were called so far, which was only a trial."""
        self._inputs, self._with_gradients = {}, set()

    def apply(self, choices: Mapping[str, Choice]) -> None:
        """Lay out and run networks as chosen; what is so already stays."""
        for name, choice in choices.items():
            before = self.choices.get(name, Choice())
            missing = Choice(choice.channels_last and not before.channels_last, choice.compile and not before.compile)
            _change(self._networks[name], missing)
            if name in self._averages:
                _change(self._averages[name], replace(missing, compile=False))
            self.choices[name] = choice
            self._tell(f"speed: {name}: {choice}")
        follow(self._optimizers)

    def repeat(self, choices: Mapping[str, Mapping[str, Any]]) -> None:
        """Do as a checkpoint says, where the options leave the choice."""
        left_open = {name: Choice(**one, why="as before") for name, one in choices.items() if name in self._watching}
        self._stop_watching(left_open)
        self.apply(left_open)

    def _told(self, name: str) -> Choice:
        """What the options say of a network, as far as they do."""
        options, network = self._options, self._networks[name]
        if self._is_spread(name):
            return Choice()
        layout = options.channels_last is True and has_images(network)
        compiled = options.compile is True and self._compiles(name)
        return Choice(layout, compiled, "as the options say")

    def _open(self, name: str) -> bool:
        """Whether there is a choice for a network that the options leave; one that is spread stays as it is."""
        if self._is_spread(name):
            return False
        return (self._options.channels_last == "auto" and has_images(self._networks[name])) or self._may_compile(name)

    def _is_spread(self, name: str) -> bool:
        return self._plan.networks[name].spread is not None and self._world.processes > 1

    def _may_compile(self, name: str) -> bool:
        auto = self._options.compile == "auto" and self._world.device.type == "cuda"
        return auto and self._compiles(name)

    def _compiles(self, name: str) -> bool:
        """Whether torch can compile a network for all that is done with it."""
        blocks = (module.forward for module in self._networks[name].modules())
        return name not in self._differentiated and not any(isinstance(block, Recomputed) for block in blocks)

    def _note(self, name: str) -> Any:
        """A hook that keeps the largest inputs of a network, of those calls that want gradients if there are any."""

        def note(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if network is not self._networks[name]:  # a copy of it, which has its hooks too
                return
            inputs = Inputs.of(args, kwargs)
            wants, known = torch.is_grad_enabled(), self._inputs.get(name)
            wanted = name in self._with_gradients
            if known is None or wants > wanted or (wants == wanted and inputs.size() > known.size()):
                self._inputs[name] = inputs
                self._with_gradients |= {name} if wants else set()

        return note

    def _stop_watching(self, names: Iterable[str]) -> None:
        for name in names:
            self._watching.pop(name).remove()

    def _measure(self, precision: Precision, iterations: int) -> dict[str, Choice]:
        """Try the networks, the largest inputs first, until the time is over."""
        deadline = time.monotonic() + self._options.seconds
        order = sorted(self._inputs, key=lambda name: -self._inputs[name].size())
        chosen = {}
        for name in order:
            if time.monotonic() >= deadline:
                chosen[name] = Choice(why="no time left to measure")
                continue
            network, inputs = self._networks[name], self._inputs[name]
            try:
                trial = Trial(network, self._learning[name], inputs, self._world.device, precision)
                chosen[name] = self._best(name, trial, iterations, deadline)
            except Exception as error:  # such as batch norm where a process by itself has a single sample
                chosen[name] = Choice(why=f"cannot be tried: {_told(error)}")
        return {name: chosen[name] for name in self._inputs}

    def _best(self, name: str, trial: Trial, iterations: int, deadline: float) -> Choice:
        """Time the network as it is, and in each way that may be quicker."""
        device, network = self._world.device, self._networks[name]
        if trial.operations < _WORTH.get(device.type, _WORTH_ELSEWHERE):
            return Choice(why=f"a pass is {trial.operations / 1e9:.2g} billion operations")
        best, told = Choice(), [f"a pass takes {trial.seconds * 1e3:.1f} ms"]
        if self._options.channels_last == "auto" and has_images(network):
            best = _better(trial, best, Choice(channels_last=True), deadline, told)
        if self._may_compile(name):
            if trial.seconds * iterations < _COMPILE_PAYS_SECONDS:
                told.append("too short a run to compile for")
            elif time.monotonic() < deadline:
                best = _better(trial, best, replace(best, compile=True), deadline, told)
        return replace(best, why=", ".join(told))


def _change(network: nn.Module, choice: Choice) -> None:
    """Lay a network out, or let it be compiled when it is called next."""
    if choice.channels_last:
        put_channels_last(network)
    if choice.compile:
        network.compile()


def _better(trial: Trial, best: Choice, other: Choice, deadline: float, told: list[str]) -> Choice:
    """The other choice, if the network gains by it."""
    word = "compile" if other.compile else "channels_last"
    try:
        share = trial.share(lambda network: _change(network, other), deadline)
    except Exception as error:  # whatever the network or a compiler makes of it
        told.append(f"{word} fails: {_told(error)}")
        return best
    told.append(f"{word} {share:.2f} of that")
    return other if gains(share) else best


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _set_precision(options: Speed, device: torch.device, tell: Callable[[str], None]) -> None:
    """Let products of float32 be rounded, or not, where the options say so."""
    if options.tf32 is None:
        return
    if device.type != "cuda":
        tell("speed: tf32 makes no difference without a GPU")
        return
    torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = options.tf32
