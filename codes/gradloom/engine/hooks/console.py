"""Tell whoever watches: a progress bar on a terminal, plain lines anywhere else."""

import time
from collections.abc import Mapping

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from gradloom.engine.log import Kind, Silent, line
from gradloom.engine.preflight.words import amount

_REFRESH_SECONDS = 0.2
_SPEED = ("iterations_per_second", "samples_per_second", "data_wait_share", "peak_memory_mb")


class Console(Silent):
    """Shows the iteration, its rate, the time left and the losses."""

    def __init__(self, first: int, iterations: int) -> None:
        self.terminal = Terminal(highlight=False, soft_wrap=True)
        self.iterations = iterations
        self._shown = 0.0
        self._explained: set[str] = set()
        self._rates: dict[str, float] = {}
        whole = Column(no_wrap=True)
        self.progress = Progress(
            MofNCompleteColumn(table_column=whole),
            BarColumn(bar_width=20, table_column=Column(no_wrap=True, min_width=8)),
            TextColumn("{task.fields[rate]}", table_column=whole),
            TimeRemainingColumn(table_column=whole),
            TextColumn("{task.fields[losses]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self.terminal,
            refresh_per_second=4,
            expand=True,
            disable=not self.terminal.is_terminal,
        )
        self.task = self.progress.add_task("training", total=iterations, completed=first, rate="", losses="")
        self.progress.start()

    def tick(self, iteration: int) -> None:
        now = time.monotonic()
        if now - self._shown > _REFRESH_SECONDS or iteration == self.iterations:
            self._shown = now
            self.progress.update(self.task, completed=iteration)
        if iteration == self.iterations:
            self.progress.stop()

    def scalars(self, kind: Kind, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        if kind != "train":
            fresh = {name: note for name, note in notes.items() if name not in self._explained}
            self._explained |= fresh.keys()
            self.terminal.print(line(kind, iteration, values, {}), markup=False)
            for name, note in fresh.items():
                self.terminal.print(f"{'':>8}  {name}: {note}", markup=False)
            return
        rate = values["iterations_per_second"]
        if self.terminal.is_terminal:
            totals = {name.removesuffix("/total"): value for name, value in values.items() if name.endswith("/total")}
            shown = "  ".join(f"{name} {value:.3g}" for name, value in totals.items())
            self.progress.update(self.task, completed=iteration, rate=_speed(values), losses=shown)
        else:
            left = _clock((self.iterations - iteration) / max(rate, 1e-9))
            self.terminal.print(
                f"{line(kind, iteration, self._news(values), {})}  {_speed(values)}  {left} left", markup=False
            )

    def _news(self, values: Mapping[str, float]) -> dict[str, float]:
        """What is worth a line's room: losses, totals of several losses, and learning rates that changed."""
        news = {}
        for name, value in values.items():
            step, _, rest = name.partition("/")
            losses = [other for other in values if other.startswith(f"{step}/") and other.count("/") == 1]
            changed = self._rates.get(name) != value
            if (step == "lr" and changed) or (
                step != "lr" and "/" not in rest and (rest != "total" or len(losses) > 2)
            ):
                news[name] = value
        self._rates = {name: value for name, value in values.items() if name.startswith("lr/")}
        return {name: value for name, value in news.items() if name not in _SPEED}

    def say(self, text: str) -> None:
        self.terminal.print(text, markup=False)

    def close(self) -> None:
        self.progress.stop()


def _speed(values: Mapping[str, float]) -> str:
    """How fast it goes, how much of the time data is waited for, and the most memory so far."""
    terms = [f"{values['iterations_per_second']:.3g} it/s", f"{values['samples_per_second']:.3g} samples/s"]
    terms.append(f"{values['data_wait_share']:.0%} waiting")
    if "peak_memory_mb" in values:
        terms.append(amount(round(values["peak_memory_mb"] * 1e6)))
    return ", ".join(terms)


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
