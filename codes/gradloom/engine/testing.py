"""Write what networks make of every sample of the datasets: `gradloom test`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from gradloom.config.names import file_name
from gradloom.engine.applying import Applying, look_first, phases_of, results_folder, to_pictures
from gradloom.engine.data.rejects import Named, Rejects
from gradloom.engine.interrupts import Interrupted, Interrupts
from gradloom.errors import RunError
from gradloom.plan.plan import Plan


def test(plan: Plan, say: Callable[[str], None]) -> None:
    """Write `eval.output_state` of every sample into `results/<name>/<dataset>/`, and say how many and where.

    Of a file that trains it is datasets.test alone, where there is one.

    Raises:
        OptionsError: when the options do not say what to write, or it cannot be made.
        RunError: when something is missing, or more samples are bad than the options allow.
        Interrupted: when it was asked to stop.
    """
    try:
        opened = look_first(plan, phases_of(plan), say)
        applying = Applying(plan)
        for sentence in applying.origins:
            say(sentence)
        with Interrupts().noted() as interrupts:
            for phase, dataset in opened.items():
                _write_all(applying, phase, dataset, interrupts, say)
    except OSError as error:
        raise RunError(f"a file cannot be read or written: {error}") from error


def _write_all(
    applying: Applying, phase: str, dataset: Dataset[Any], interrupts: Interrupts, say: Callable[[str], None]
) -> None:
    plan = applying.plan
    rejects = Rejects(plan.datasets[phase], say)
    folder = results_folder(plan, phase)
    folder.mkdir(parents=True, exist_ok=True)
    names, count = Names(dataset), 0
    for fetched in applying.feed(phase, dataset):
        rejects.note(fetched.bad, fetched.batch)
        for output in applying.outputs(phase, fetched):
            pictures = list(to_pictures(output.value, *plan.sections.image_normalization_range))
            for number, picture in enumerate(pictures):
                part = f"_{number:03d}" if len(pictures) > 1 else ""
                save(folder / f"{names.of(output.index)}{part}.png", picture)
            count += len(pictures)
        if interrupts.number is not None:
            raise Interrupted(interrupts.number, f"stopped after {count:,} images of {phase}, in {folder}")
    bad = f"; {len(rejects.indices)} bad samples were left out" if rejects.indices else ""
    say(f"{phase}: {count:,} images of {applying.application.output!r} in {folder}{bad}")


class Names:
    """Names of files for samples: those of their own files, with a number where that is taken, or numbers."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset, self._given = dataset, dict[str, int]()

    def of(self, index: int) -> str:
        """The name for a sample, without an ending."""
        known = isinstance(self._dataset, Named)
        name = file_name(Path(self._dataset.name_of(index)).stem) if known else f"{index:06d}"  # type: ignore[attr-defined]
        if self._given.setdefault(name.casefold(), index) != index:
            return f"{name}_{index:06d}"
        return name


def save(file: Path, picture: Any) -> None:
    """Write bytes of (channels, height, width) as a PNG that is whole or not there."""
    from torchvision.transforms.v2.functional import to_pil_image  # takes a second, which only this needs

    beside = file.with_name(f".{file.name}.part")
    to_pil_image(picture).save(beside, "PNG")
    beside.replace(file)
