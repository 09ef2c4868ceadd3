"""Watch for updates that were skipped because a number was not finite, and act when there are too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradloom.config.sections import NotFinite
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.engine.hooks.metrics import Metrics
from gradloom.engine.soundness import Verdict
from gradloom.errors import Diverged

if TYPE_CHECKING:
    from gradloom.engine.trainer import Trainer

_HALVINGS = 16  # that bring float16's first scale down to 1


class RollBack(Exception):
    """The run has to return to a checkpoint."""


class Guard(Hook):
    """Says and counts every update that was skipped, and stops, or goes back, after too many in a row."""

    def __init__(self, options: NotFinite, metrics: Metrics, every: int) -> None:
        self.options, self.metrics, self.every = options, metrics, every
        self._unread: dict[int, tuple[Sequence[str], Mapping[str, Tensor]]] = {}
        self._updated: set[str] = set()  # the steps that have made an update

    def state(self) -> dict[str, Any]:
        return {"updated": sorted(self._updated)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._updated = {*state.get("updated", ())}  # which checkpoints of earlier versions do not tell

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        trainer = run.trainer
        self._unread[trainer.iteration - 1] = (run.fetched.names if run.fetched else (), metrics)
        if not trainer.soundness.on_device or run.last:
            self._look(run, trainer.soundness.verdicts())
            return
        self._look(run, trainer.soundness.answers())
        if trainer.iteration % self.every == 0:
            trainer.soundness.ask()

    def settle(self, run: Run) -> None:
        """Look at what the device has been asked."""
        self._look(run, run.trainer.soundness.answers())

    def _look(self, run: Run, verdicts: Sequence[Verdict]) -> None:
        """Tell, count and act on what became of updates; what is older than the last of them is forgotten."""
        for verdict in verdicts:
            if verdict.skipped:
                self._say(run, verdict)
                self.metrics.skipped(verdict.step)
            else:
                self._updated.add(verdict.step)
        last = max((verdict.iteration for verdict in verdicts), default=-1)
        self._unread = {iteration: one for iteration, one in self._unread.items() if iteration > last}
        for verdict in verdicts:
            if verdict.row > self.options.tolerate + _halvings(run):
                self._act(run, verdict)

    def _say(self, run: Run, verdict: Verdict) -> None:
        """Tell which step, which numbers and which samples."""
        names, metrics = self._unread.get(verdict.iteration, ((), {}))
        broken = [
            f"{name.removeprefix(f'{verdict.step}/')} {value.item():g}"
            for name, value in metrics.items()
            if name.startswith(f"{verdict.step}/") and not bool(value.isfinite())
        ]
        reports = run.trainer.world.gather((broken, names))
        losses = list(dict.fromkeys(loss for losses, _ in reports for loss in losses))
        what = ", ".join(losses) or "a gradient is not finite"
        samples = "; ".join(name for _, names in reports for name in names)
        run.log.say(
            f"iteration {verdict.iteration}: the update of {verdict.step} is skipped, {verdict.row} in a row: {what}"
            + (f" (samples: {samples})" if samples else "")
        )

    def _act(self, run: Run, verdict: Verdict) -> None:
        why = (
            f"{verdict.row} updates of {verdict.step} in a row had losses or gradients that are no finite numbers, "
            f"the last in iteration {verdict.iteration}"
        )
        if self.options.action == "rollback":
            raise RollBack(why)
        if self.options.action == "anomaly":
            why += f"; {find_cause(run)}"
        raise Diverged(why)

    def finish(self, run: Run) -> None:
        """See that the run ends with weights that can be used.

        Raises:
            Diverged: when it does not.
        """
        for step, row in run.trainer.soundness.rows.items():
            if row:
                run.log.say(f"the last {row} updates of {step} were skipped: they were not finite")
            if row > _halvings(run) and step not in self._updated and run.interrupts.number is None:
                raise Diverged(f"all {row} updates of {step} had losses or gradients that are no finite numbers")
        for name, network in run.trainer.networks.items():
            if not all(_finite(value) for value in network.state_dict().values()):
                raise Diverged(f"the weights of {name} are no finite numbers")


def _halvings(run: Run) -> int:
    """How many updates may be skipped at first until float16's scale is low enough."""
    return _HALVINGS if run.trainer.precision.scales else 0


def find_cause(run: Run) -> str:
    """Run the last batch again with torch's anomaly detection, and say where numbers first go wrong."""
    batch = run.fetched.batch if run.fetched else {}
    with run.trainer.world.alone():
        cause = _cause(run.trainer, batch)
    return next(filter(None, run.trainer.world.gather(cause)), "the same batch went well when it was run again")


def _cause(trainer: Trainer, batch: Mapping[str, Any]) -> str:
    calls = [call for step in trainer.plan.steps for call in step.injectors]
    report, metrics = "", dict[str, Tensor]()
    try:
        with torch.autograd.detect_anomaly():
            metrics = trainer.train_step(batch, {key for call in calls for key in call.writes})
    except RuntimeError as error:  # what anomaly detection raises
        report = f"anomaly detection: {str(error).splitlines()[0]}"
    for name, value in batch.items():
        if not _finite(value):
            return f"the batch's {name!r} is not finite"
    for call in calls:
        for key in call.writes:
            if not all(_finite(micro.state[key]) for micro in trainer.states if key in micro.state):
                return "; ".join(filter(None, [f"{call.path} is the first to write such numbers, in {key!r}", report]))
    broken = [f"{name} is {value.item():g}" for name, value in metrics.items() if not _finite(value)]
    return "; ".join([*broken, *([report] if report else [])])


def _finite(value: object) -> bool:
    return not isinstance(value, Tensor) or bool(value.isfinite().all())
