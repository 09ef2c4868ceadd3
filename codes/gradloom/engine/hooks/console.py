"""Tell whoever watches: a progress bar on a terminal, plain lines anywhere else."""

import time
from collections.abc import Mapping

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gradloom.engine.log import Kind, Silent, line

_REFRESH_SECONDS = 0.2
_SPEED = ("iterations_per_second", "samples_per_second", "data_wait_share")


class Console(Silent):
    """Shows the iteration, its rate, the time left and the losses."""

    def __init__(self, first: int, iterations: int) -> None:
        self.terminal = Terminal(highlight=False, soft_wrap=True)
        self.iterations = iterations
        self._shown = 0.0
        self._explained: set[str] = set()
        self._begun, self._first = time.monotonic(), first
        self.progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}  {task.fields[losses]}"),
            console=self.terminal,
            refresh_per_second=4,
            disable=not self.terminal.is_terminal,
        )
        self.task = self.progress.add_task("training", total=iterations, completed=first, rate="", losses="")
        self.progress.start()

    def tick(self, iteration: int) -> None:
        now = time.monotonic()
        if now - self._shown > _REFRESH_SECONDS or iteration == self.iterations:
            self._shown = now
            self.progress.update(self.task, completed=iteration)

    def scalars(self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        if kind == "eval":
            fresh = {name: note for name, note in notes.items() if name not in self._explained}
            self._explained |= fresh.keys()
            self.terminal.print(line(kind, iteration, values, {}), markup=False)
            for name, note in fresh.items():
                self.terminal.print(f"{'':>8}  {name}: {note}", markup=False)
            return
        losses = {name: value for name, value in values.items() if name not in _SPEED and name.count("/") == 1}
        rate = f"{values['iterations_per_second']:.3g} it/s"
        if self.terminal.is_terminal:
            shown = "  ".join(f"{name} {value:.3g}" for name, value in losses.items() if name.endswith("/total"))
            self.progress.update(self.task, completed=iteration, rate=rate, losses=shown)
        else:
            left = self._time_left(iteration)
            self.terminal.print(f"{line(kind, iteration, losses, {})}  {rate}  {left} left", markup=False)

    def _time_left(self, iteration: int) -> str:
        done = max(1, iteration - self._first)
        seconds = int((time.monotonic() - self._begun) / done * (self.iterations - iteration))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def say(self, text: str) -> None:
        self.terminal.print(text, markup=False)

    def close(self) -> None:
        self.progress.stop()
