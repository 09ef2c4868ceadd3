"""Run iterations without values: what the trainer does, step by step, with what is wrong noted at its place."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradloom.engine.batches import Micro, split
from gradloom.engine.calls import number_of
from gradloom.engine.containers import detached
from gradloom.engine.preflight.findings import Findings
from gradloom.engine.preflight.ledger import Ledger
from gradloom.engine.preflight.models import Models
from gradloom.engine.preflight.samples import META
from gradloom.engine.preflight.stage import UNKNOWN, Stage
from gradloom.engine.preflight.words import in_plain_words
from gradloom.engine.sharing import part_of
from gradloom.parts import Injector
from gradloom.plan.plan import Call, Plan
from gradloom.plan.program import Program, Routine

_CERTAIN = ("modified by an inplace operation", "a second time", "derivative for ")  # of backward passes' errors


class Rehearsal:
    """The trainer's doubles: networks and parts that have shapes and no values."""

    def __init__(self, plan: Plan, models: Models, stage: Stage, findings: Findings, processes: int) -> None:
        self.plan, self.models, self.stage, self.findings = plan, models, stage, findings
        factor = plan.sections.train.mega_batch_factor
        self._written: dict[Call[Injector], dict[str, Any]] = {}  # by injectors that run on one micro-batch
        self._micro_batches = 1 if factor == "auto" else part_of(factor, processes)
        self._trainable = {
            name: [p for p in net.parameters() if p.requires_grad] for name, net in models.networks.items()
        }

    def look(self, iteration: int, per_epoch: int, batch: Mapping[str, Any]) -> None:
        """Find what is wrong with an iteration; of micro-batches only the largest and the smallest are looked at."""
        program = self._begin(iteration, per_epoch)
        micros = self._split(program, batch)
        kept = [micros[0], micros[-1]] if len(micros) > 1 else micros
        for routine in program.routines:
            self._run(routine, kept)
            self._forget_gradients([routine.trains])
        self._teach(self._trainable)

    def weigh(
        self, iteration: int, batch: Mapping[str, Any], optimizers: Mapping[str, Optimizer], device: torch.device
    ) -> int:
        """The most bytes that an iteration has alive beside weights, averages and the optimizers' state.

        To be called once it is known what is wrong, since this is noted again.
        """
        program = self._begin(iteration, 1)
        still = [tensor for net in self.models.known.values() for tensor in (*net.parameters(), *net.buffers())]
        still += [value for one in optimizers.values() for state in one.state.values() for value in state.values()
                  if isinstance(value, Tensor)]  # fmt: skip
        ledger = Ledger(still, device.type == "cpu")
        with ledger.watching():
            ledger.note(tuple(batch.values()))
            micros = self._split(program, batch)
            for routine in program.routines:
                self._run(routine, micros, ledger)
                if routine.trains:
                    self._update(routine, optimizers)
        self._teach(self._trainable)
        return ledger.most

    def _begin(self, iteration: int, per_epoch: int) -> Program:
        self._written.clear()
        for step in self.plan.steps:
            for call in (*step.injectors, *step.losses):
                call.part.advance(iteration, per_epoch)
        return self.plan.program(iteration, frozenset(self.plan.sections.logger.visuals))

    def _split(self, program: Program, batch: Mapping[str, Any]) -> list[Micro]:
        there = [key for key in program.inputs if key in batch]
        return split(batch, there, self._micro_batches, META)

    def _run(self, routine: Routine, micros: list[Micro], ledger: Ledger | None = None) -> None:
        self._teach(routine.trains)
        if not routine.trains:
            with torch.no_grad():
                for micro in micros:
                    self._inject(routine, micro)
            return
        whole = True
        for micro in micros:
            self._inject(routine, micro)
            total, complete = self._total(routine, micro)
            whole = self._back(routine, total, complete, ledger) and whole
            for key in routine.exports:
                if key in micro.state:
                    micro.state[key] = detached(micro.state[key])
        if whole:
            self._check_learned(routine)

    def _teach(self, names: Container[str]) -> None:
        for name, parameters in self._trainable.items():
            for parameter in parameters:
                parameter.requires_grad_(name in names)

    def _inject(self, routine: Routine, micro: Micro) -> None:
        for action in routine.injectors:
            call = action.call
            if call.part.no_accum and call in self._written:
                micro.state.update(self._written[call])
            else:
                self.stage.inject(call, micro.state)
            if call.part.no_accum:
                self._written[call] = {key: detached(micro.state[key]) for key in call.writes if key in micro.state}
            for key in action.frees:
                micro.state.pop(key, None)

    def _total(self, routine: Routine, micro: Micro) -> tuple[Tensor | None, bool]:
        """The weighted sum of the losses that are known, and whether all are."""
        total, complete = None, True
        for action in routine.losses:
            value = self.stage.value(action.call, micro.state)
            number = value if value is UNKNOWN else number_of(value, action.call.writes)
            if isinstance(number, str):
                self.findings.fault(action.call.fault(number))
            if isinstance(number, Tensor):
                micro.state.update(zip(action.call.writes, value[2:] if action.call.writes else (), strict=False))
                weighted = action.call.part.weight * number
                total = weighted if total is None else total + weighted
            else:
                complete = False
            for key in action.frees:
                micro.state.pop(key, None)
        return total, complete

    def _back(self, routine: Routine, total: Tensor | None, complete: bool, ledger: Ledger | None) -> bool:
        """Pass back from the losses; say whether everything the step trains has what gradients it will get."""
        node = routine.step.node
        if total is None or not total.requires_grad:
            if complete:
                names = " and ".join(map(repr, routine.trains))
                self.findings.fault(node.fault(f"its losses do not depend on {names}; call it with gradients"))
            return False
        if ledger:
            ledger.follow(total)
        try:
            torch.autograd.backward(total)
        except Exception as error:  # whatever a backward formula raises
            certain = any(words in str(error) for words in _CERTAIN)
            say = self.findings.fault if certain else self.findings.notice
            say(node.fault(f"its gradients cannot be taken: {in_plain_words(error)}"))
            return False
        return complete

    def _check_learned(self, routine: Routine) -> None:
        """See that the gradient reaches what the step trains."""
        trained = {name: self._trainable[name] for name in routine.trains if self._trainable.get(name)}
        missed = [name for name, parameters in trained.items() if all(p.grad is None for p in parameters)]
        names = " and ".join(map(repr, missed))
        if missed and len(missed) == len(trained):
            self.findings.fault(routine.step.node.fault(f"the gradient of its losses does not reach {names}"))
        elif missed:
            notice = f"while others learn, the gradient of its losses does not reach {names}"
            self.findings.notice(routine.step.node.fault(notice))

    def _update(self, routine: Routine, optimizers: Mapping[str, Optimizer]) -> None:
        optimizer = optimizers.get(routine.step.updater or "")
        if optimizer and optimizer.state:
            optimizer.step()
        self._forget_gradients([routine.trains])
        for name in routine.trains:
            if name in self.models.averages:
                self.models.averages[name].update()

    def _forget_gradients(self, trained: Iterable[tuple[str, ...]]) -> None:
        for name in {name for names in trained for name in names}:
            for parameter in self._trainable.get(name, ()):
                parameter.grad = None
