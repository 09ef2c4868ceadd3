"""The losses of steps, measured over the validation set: what `eval.pure` asks for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from gradloom.errors import Fault
from gradloom.parts import Evaluator, Inner, Loss, Part, Read
from gradloom.plan.plan import Call, Step

Found = tuple[int, dict[str, Tensor]]


class ValidationLoss(Evaluator):
    """The mean of a step's loss, and of its metrics, over the samples of the validation set.

    A batch's value counts as often as it has samples, of which any tensor among `like` has one in each row.
    """

    loss: Loss
    like: tuple[Read, ...] = ()

    def whole(self) -> Iterator[Part]:
        """Itself: the loss is a step's, and has been set up there."""
        yield self

    def reset(self) -> None:
        self._samples, self._sums = 0, dict[str, Tensor]()

    def forward(self, loss: Inner, like: Sequence[Any]) -> Found:
        """What a batch's loss and metrics are, and its size."""
        value = loss()
        value, metrics = value[:2] if isinstance(value, tuple) else (value, {})
        size = next((len(one) for one in like if isinstance(one, Tensor) and one.dim()), 1)
        return size, {name: number.detach() for name, number in {"": value, **metrics}.items()}

    def add(self, found: Found) -> None:
        size, numbers = found
        self._samples += size
        for name, number in numbers.items():
            weighted = size * number.double()
            self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted

    def compute(self) -> Mapping[str, float]:
        return {name: float(total) / self._samples for name, total in self._sums.items()}

    def protocol(self) -> str:
        return f"mean over {self._samples:,} samples"


def validation_losses(steps: Iterable[Step], notices: list[Fault]) -> list[Call[Evaluator]]:
    """One for each loss of each step, called `val/<step>/<loss>`; those that need gradients themselves are left out."""
    calls: list[Call[Evaluator]] = []
    for step in steps:
        for call in step.losses:
            if [*call.part.twice()]:
                notices.append(call.fault("not measured by eval.pure, since it takes gradients while it is computed"))
                continue
            gate = call.gate & step.gate
            measured = ValidationLoss(loss=call.part, after=gate.after, before=gate.before)
            calls.append(Call(measured, replace(call.node, path=f"val/{step.name}/{call.name}")))
    return calls


def sized(calls: Iterable[Call[Evaluator]], inputs: tuple[str, ...]) -> tuple[Call[Evaluator], ...]:
    """The same calls, which are told what comes with a batch, so that they know its size."""
    for call in calls:
        if isinstance(call.part, ValidationLoss):
            call.part.like = inputs
    return tuple(Call(call.part, call.node) for call in calls)


def totals(steps: Iterable[Step], values: Mapping[str, float]) -> dict[str, float]:
    """The weighted sums of the losses of steps all of whose losses were measured."""
    found = {}
    for step in steps:
        names = [f"val/{step.name}/{call.name}" for call in step.losses]
        if names and all(name in values for name in names):
            weighted = [call.part.weight * values[name] for name, call in zip(names, step.losses, strict=True)]
            found[f"val/{step.name}/total"] = sum(weighted)
    return found
