"""Whether the numbers of an update are finite; if not, it is skipped, and what they spoilt is mended.

On a CPU the host decides at once. On a GPU the device decides, and the host learns of it when somebody asks, so that
nothing waits. Gradients are averaged over all processes before, and the loss with them, so all decide alike.
"""

import cmath
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from gradloom.engine.reading import Reading

_UNREAD_ON_DEVICE, _UNREAD = 1024, 16  # verdicts that nobody has asked for are counted, and then forgotten


@dataclass(frozen=True)
class Verdict:
    """Whether a step's update in an iteration was skipped, and how many of its updates in a row up to it."""

    iteration: int
    step: str
    skipped: bool
    row: int


class Soundness:
    """Judges updates, counts those skipped in a row, and keeps buffers that a forward pass changes finite."""

    def __init__(self, modules: Iterable[nn.Module], device: torch.device) -> None:
        self.on_device = device.type == "cuda"
        self._rows: dict[str, int] = {}
        self._unread: list[tuple[int, str, bool | Tensor]] = []
        self._asked: list[tuple[list[tuple[int, str, bool | Tensor]], Callable[[], Sequence[Any]]]] = []
        self._buffers = [
            (owner, name)
            for module in modules
            for owner in module.modules()
            for name, buffer in owner.named_buffers(recurse=False)
            if buffer.is_floating_point()
        ]
        self._kept: list[Tensor] = []
        self.remember()

    def judge(self, iteration: int, step: str, total: Tensor, gradients: Sequence[Tensor]) -> bool:
        """Whether an update may be made, as far as the host knows; on a GPU a bad one poisons its gradients."""
        verdict: bool | Tensor
        if self.on_device:
            verdict = ~(total.isfinite() & get_total_norm(gradients, math.inf).isfinite())
            for gradient in gradients[:1]:
                gradient.add_(total * 0)
        else:
            verdict = not (math.isfinite(total.item()) and all(map(_finite, gradients)))
        self._unread.append((iteration, step, verdict))
        if len(self._unread) > (_UNREAD_ON_DEVICE if self.on_device else _UNREAD):
            self.verdicts()
        return self.on_device or not verdict

    def make_room(self) -> None:
        """See that a few verdicts more can be noted without anybody waiting."""
        if len(self._unread) > _UNREAD_ON_DEVICE // 2:
            self.verdicts()

    def take(self, iteration: int) -> list[tuple[str, bool | Tensor]]:
        """Take back what was noted of an iteration: the steps and whether their updates were skipped."""
        taken = [(step, flag) for number, step, flag in self._unread if number == iteration]
        self._unread = [one for one in self._unread if one[0] != iteration]
        return taken

    def put(self, iteration: int, verdicts: Iterable[tuple[str, bool | Tensor]]) -> None:
        """Note of an iteration what was taken of one like it."""
        self._unread += [(iteration, step, flag) for step, flag in verdicts]
        if len(self._unread) > _UNREAD_ON_DEVICE:
            self.verdicts()

    def ask(self) -> None:
        """Have the device tell what became of the updates so far; `answers` has it once it gets there."""
        if self._unread:
            flags = [flag for _, _, flag in self._unread]
            there = [flag for flag in flags if isinstance(flag, Tensor)]
            self._asked.append((self._unread, Reading(torch.stack(there)).numbers if there else lambda: flags))
            self._unread = []

    def answers(self) -> list[Verdict]:
        """What became of the updates that were asked about; the host waits if the device is not there yet."""
        asked, self._asked = self._asked, []
        found = []
        for unread, flags in asked:
            for (iteration, step, _), skipped in zip(unread, flags(), strict=True):
                self._rows[step] = self._rows.get(step, 0) + 1 if skipped else 0
                found.append(Verdict(iteration, step, skipped, self._rows[step]))
        return found

    def verdicts(self) -> list[Verdict]:
        """What became of the updates since this was asked last; on a GPU the host waits for it."""
        self.ask()
        return self.answers()

    @property
    def rows(self) -> dict[str, int]:
        """How many updates of each step, up to its last, were skipped in a row; on a GPU the host waits for it."""
        rows = dict(self._rows)
        for _, step, flag in (*(one for asked, _ in self._asked for one in asked), *self._unread):
            rows[step] = rows.get(step, 0) + 1 if bool(flag) else 0
        return rows

    def go_on(self, rows: Mapping[str, int]) -> None:
        """Count on from so many updates skipped in a row, with buffers as they are now."""
        self._rows, self._unread, self._asked = dict(rows), [], []
        self.remember()

    @torch.no_grad()
    def remember(self) -> None:
        """Keep what the buffers hold."""
        buffers = [owner.get_buffer(name) for owner, name in self._buffers]
        if [(one.shape, one.device) for one in buffers] != [(one.shape, one.device) for one in self._kept]:
            self._kept = [buffer.clone() for buffer in buffers]
        for kept, buffer in zip(self._kept, buffers, strict=True):
            kept.copy_(torch.where(buffer.isfinite(), buffer, kept) if self.on_device else buffer)

    @torch.no_grad()
    def mend(self) -> None:
        """Give buffers that are no longer finite, such as batch norm's statistics, what they held before."""
        for kept, (owner, name) in zip(self._kept, self._buffers, strict=True):
            buffer = owner.get_buffer(name)
            if self.on_device:
                buffer.copy_(torch.where(buffer.isfinite(), buffer, kept))
            elif not _finite(buffer):
                buffer.copy_(kept)

    def after(self, iteration: int) -> None:
        """Mend what may have to be, and remember, at the end of an iteration."""
        if not self._buffers:
            return
        if self.on_device or any(flag for number, _, flag in self._unread if number == iteration):
            self.mend()
        self.remember()


def _finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; a sum tells most cheaply, and only a sum can overflow where they do not."""
    return cmath.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())
