"""The heart: what one iteration of a plan does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm

from gradloom.engine import build
from gradloom.engine.arranging import arranged
from gradloom.engine.batches import Micro
from gradloom.engine.containers import detached
from gradloom.engine.cutting import cut_to_fit
from gradloom.engine.data.order import Position
from gradloom.engine.fanin import scale
from gradloom.engine.folder import RunFolder
from gradloom.engine.learning import Learning
from gradloom.engine.rates import Rates
from gradloom.engine.recomputing import switch
from gradloom.engine.saving.changes import refuse_changes
from gradloom.engine.saving.checkpoint import examine
from gradloom.engine.saving.snapshot import give, take
from gradloom.engine.saving.writing import write
from gradloom.engine.speed.graphs import graphs
from gradloom.engine.speed.tuning import Tuning
from gradloom.engine.taking_part import TakingPart
from gradloom.engine.world import World
from gradloom.errors import RunError
from gradloom.parts import Injector
from gradloom.plan.plan import Call, Plan
from gradloom.plan.program import Routine
from gradloom.raised import placed


class Trainer:
    """Runs a plan, iteration by iteration.

    Building it makes the networks and optimizers, on the device chosen by availability or by `device`; it reads no
    data and writes no file.

    Raises:
        RunError: when the plan cannot be built here, such as when weights it starts from are missing.
    """

    def __init__(self, plan: Plan, device: str | torch.device | None = None) -> None:
        self.plan = plan.fresh()
        self.world = World(plan.sections.gpu_ids, device, plan.sections.train.process_timeout)
        self.networks, self.origins = build.networks(self.plan, self.world)
        self.averages, begun = build.averages(self.plan, self.networks)
        self.emas = {name: average.network for name, average in self.averages.items()}
        self.shards, spread = build.shards(self.plan, self.world, self.networks, self.averages)
        self.origins += [*begun, *spread]
        self.optimizers = build.optimizers(self.plan, self.networks, self.shards.part, self.world.processes)
        self.precision = build.precision(self.plan, self.world)
        self.calls = build.calls(self.plan, self.networks, self.emas, self.world)
        self.news: list[str] = []  # what it has found out, for the run to tell
        self.tuning = Tuning(
            self.plan, self.networks, self.emas, self.optimizers.values(), self.world, self.news.append
        )
        self.rates = Rates(self.plan, self.optimizers)
        factor = plan.sections.train.mega_batch_factor
        self.micro_batches, self.fits = (1, False) if factor == "auto" else (factor, True)
        self.iteration = plan.sections.start_step + 1
        self.position = Position()
        self.read: Event | None = None  # set once a thread that copies the weights is done with them
        self.iterations_per_epoch = 0  # known once the training data is
        self.states: list[Micro] = []  # what was kept of the last iteration, for those who look at it
        self._written: dict[Call[Injector], dict[str, Any]] = {}  # by injectors that run on one micro-batch
        self._scheduled = [call.part for call in self.calls if call.part.scheduled]
        self.learning = Learning(self.networks)
        self.taking_part = TakingPart(self.networks)
        self.taking_part.loaded()
        self._parameters = {
            name: [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for name, optimizer in self.optimizers.items()
        }
        self._fan_in = build.fan_in(self.plan, self.networks, self.shards.part)
        self.sharing = build.sharing(self.plan, self.world, self.networks, self.shards, self.learning.trainable)
        self.soundness = build.soundness(self.plan, self.networks, [call.part for call in self.calls], self.world)
        self.graphs = graphs(self)
        self.world.seed_apart(plan.sections.train.manual_seed)

    def train_step(self, batch: Mapping[str, Any], keep: Iterable[str] = ()) -> dict[str, Tensor]:
        """Run one iteration on a batch, a mapping of tensors with the samples along their first dimension.

        Returns detached tensors on the device, without waiting for it: `<step>/<loss>`, `<step>/<loss>/<metric>` and
        `<step>/total`, means over the micro-batches. The keys in `keep` stay in `states` until the next iteration.
        """
        if not self.fits:
            self.fits = True
            self.news.append(cut_to_fit(self, batch))
        metrics = (self.graphs or self).iterate(batch, keep)
        if self.tuning.pending:
            self.tuning.choose(self.precision, self.plan.sections.train.niter - self.iteration)
        return metrics

    def iterate(self, batch: Mapping[str, Any], keep: Iterable[str] = ()) -> dict[str, Tensor]:
        """Run one iteration as `train_step` does, with networks and micro-batches as they are."""
        program = self.plan.program(self.iteration, frozenset(keep))
        self.advance()
        if self.taking_part.acting:  # networks may change themselves before an update
            self._let_read()
        self.taking_part.begin(self.iteration)
        train = self.plan.sections.train
        if train.mod_batch_factor_also_disable_checkpointing:
            switch(self.networks.values(), on=not train.modified(self.iteration))
        self.states = arranged(batch, program.inputs, self.iteration, train, self.micro_batches, self.sharing)
        metrics: dict[str, Tensor] = {}
        for routine in program.routines:
            if routine.trains:
                self._train(routine, metrics)
            else:
                self._supply(routine)
        self.soundness.after(self.iteration)
        self.iteration += 1
        return metrics

    def advance(self) -> None:
        """Give rates of learning and of averages, scheduled options and what may learn the values of the iteration."""
        self.rates.apply(self.iteration, self.epoch_length)
        self.learning.begin(self.iteration)
        for average in self.averages.values():
            average.advance(self.iteration, self.epoch_length)
        for part in self._scheduled:
            part.advance(self.iteration, self.epoch_length() if part.uses_epochs else 1)

    def _train(self, routine: Routine, metrics: dict[str, Tensor]) -> None:
        """Run a step on every micro-batch, then update the networks it trains."""
        self.learning.teach(routine.trains)
        for micro in self.states:
            with self.precision.cast():
                self._inject(routine, micro)
                total = self._losses(routine, micro, metrics)
            weight = micro.share * self.sharing.weight
            with placed(f"the backward pass of {routine.step.where}"):
                self.precision.backward(total if weight == 1 else weight * total, routine.step.name)
            self.taking_part.after_backward(routine.trains, self.iteration)
            for key in routine.exports:
                micro.state[key] = detached(micro.state[key])
        with placed(f"the update of {routine.step.where}"):
            self._update(routine, metrics)

    @torch.no_grad()
    def _supply(self, routine: Routine) -> None:
        """Run what later steps need of a step that does not train in this iteration."""
        for micro in self.states:
            with self.precision.cast():
                self._inject(routine, micro)

    def _inject(self, routine: Routine, micro: Micro) -> None:
        """Let the step's injectors add to the state, and drop what nobody reads any more."""
        for action in routine.injectors:
            if action.call.part.no_accum and len(self.states) > 1:
                self._inject_once(action.call, micro)
            else:
                self.calls[action.call].inject(micro.state)
            for key in action.frees:
                del micro.state[key]

    def _inject_once(self, call: Call[Injector], micro: Micro) -> None:
        """Let an injector run on the first micro-batch, and the others have what it wrote there."""
        if micro is self.states[0]:
            self.calls[call].inject(micro.state)
            self._written[call] = {key: detached(micro.state[key]) for key in call.writes}
        else:
            micro.state.update(self._written[call])

    def _losses(self, routine: Routine, micro: Micro, metrics: dict[str, Tensor]) -> Tensor:
        """Add up the step's weighted losses."""
        total: Tensor | None = None
        for action in routine.losses:
            bound = self.calls[action.call]
            value, extra = bound.score(micro.state)
            name = f"{routine.step.name}/{action.call.name}"
            _add(metrics, name, value, micro.share)
            for metric, number in extra.items():
                _add(metrics, f"{name}/{metric}", number, micro.share)
            weight = action.call.part.weight
            weighted = value if weight == 1 else weight * value
            total = weighted if total is None else total + weighted
            for key in action.frees:
                del micro.state[key]
        if total is None or not total.requires_grad:
            raise RunError(f"steps.{routine.step.name}: its losses do not depend on {', '.join(routine.trains)}")
        _add(metrics, f"{routine.step.name}/total", total, micro.share)
        return total

    @torch.no_grad()
    def _update(self, routine: Routine, metrics: dict[str, Tensor]) -> None:
        """Let the step's optimizer act on the gradients, and averages follow, unless a number is not finite."""
        step, total = routine.step, metrics[f"{routine.step.name}/total"]
        optimizer = self.optimizers[step.updater or step.name]
        self._let_read()
        parameters = self._parameters[step.updater or step.name]
        if self.shards:
            total = self.shards.average(parameters, total)
        elif self.world.processes > 1:
            total = self.sharing.average(routine.trains, total)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sound = self.soundness.judge(self.iteration, step.name, total, gradients)
        self.precision.unscale(optimizer, step.name)
        self.taking_part.before_step(routine.trains, self.iteration)
        if self._fan_in:
            scale(parameters, self._fan_in)
        if self.taking_part.groups and self.plan.sections.logs_after(self.iteration):
            metrics |= self.taking_part.norms(step.name, routine.trains, self._norm)
        if step.clip_grad_norm or step.clip_grad_eps:
            clip = self.shards.clip if self.shards else torch.nn.utils.clip_grad_norm_
            _clip(optimizer, step.clip_grad_norm, step.clip_grad_eps, clip)
        self.precision.update(optimizer, step.name, sound)
        if sound:
            self.taking_part.after_step(routine.trains, self.iteration)
        for parameter in parameters:
            parameter.grad = None
        for name in routine.trains:
            if sound and name in self.averages:
                self.averages[name].update()

    def _let_read(self) -> None:
        """Wait for the thread that copies the weights, if there is one: they are about to change."""
        if self.read is not None:
            self.read.wait()
            self.read = None

    def _norm(self, parameters: Iterable[Parameter]) -> Tensor:
        """The norm of the gradients of parameters, on the device."""
        if self.shards:
            return self.shards.norm([self.shards.part(parameter) for parameter in parameters])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return get_total_norm(gradients).to(self.world.device)

    def epoch_length(self) -> int:
        """How many iterations one pass over the training data takes."""
        if not self.iterations_per_epoch:
            self.iterations_per_epoch = build.epoch_length(self.plan, self.world)
        return self.iterations_per_epoch

    def fit(self, resume: str | Path | bool = False, allow_changes: bool = False) -> None:
        """Train as the plan describes, with its data, logs, images, evaluations and checkpoints.

        With `resume`, go on from a checkpoint's folder, or from the run's latest ("auto": if there is one);
        `allow_changes` lets networks and steps differ from the checkpoint's, of which all is taken that fits.

        Raises:
            RunError: when the run cannot start or go on, such as when data is missing.
            OptionsError: when it would fail, or networks or steps have changed since the checkpoint.
            Diverged: when losses are no longer finite numbers, or have diverged.
            Interrupted: when the run was asked to stop, after saving.
        """
        from gradloom.engine.fit import fit  # with all that a run has and an iteration does not need
        from gradloom.engine.start import start

        if not resume and self.iteration >= self.plan.sections.train.niter:
            how = "raise train.niter, or begin anew with a new trainer"
            raise RunError(f"{self.iteration:,} iterations are done already; {how}")
        fit(self, start(self.plan, self.world, resume, allow_changes))

    def save(self, folder: str | Path | None = None) -> Path:
        """Write a checkpoint into a folder, by default the run's, and return its own folder, named by the iteration.

        Every process has to take part.
        """
        return write(take(self), RunFolder(self.plan).checkpoints if folder is None else Path(folder), self.world)

    def resume(self, path: str | Path) -> None:
        """Go on from a checkpoint's folder: weights, averages, optimizers, random numbers and the iteration.

        Raises:
            RunError: when it is not complete, damaged, or does not fit.
            OptionsError: when networks or steps have changed since.
        """
        checkpoint = examine(Path(path))
        refuse_changes(checkpoint, self.plan)
        give(self, checkpoint)


def _add(metrics: dict[str, Tensor], name: str, value: Tensor, share: float) -> None:
    """Add a micro-batch's part to a mean."""
    value = value.detach()
    if share != 1:
        value = share * value
    metrics[name] = metrics[name] + value if name in metrics else value


def _clip(
    optimizer: torch.optim.Optimizer, all_together: float | None, each_group: float | None, clip: Callable[..., object]
) -> None:
    """Scale gradients down to a norm: of everything, or of each parameter group by itself."""
    groups = [group["params"] for group in optimizer.param_groups]
    if each_group:
        for parameters in groups:
            clip(parameters, each_group)
    if all_together:
        clip([parameter for parameters in groups for parameter in parameters], all_together)
