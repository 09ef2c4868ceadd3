"""Apply networks to datasets: make `eval.output_state` of every sample, without training anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gradloom.engine import build
from gradloom.engine.batches import split
from gradloom.engine.calls import Bound
from gradloom.engine.data.feed import Fetched, every_batch
from gradloom.engine.data.order import mix
from gradloom.engine.measuring import measuring
from gradloom.engine.preflight.applying import look_at_application
from gradloom.engine.taking_part import TakingPart
from gradloom.engine.world import World
from gradloom.errors import OptionsError, RunError
from gradloom.plan.plan import Application, Plan


@dataclass(frozen=True)
class Output:
    """What became of a sample: its index in the dataset, and its image or images."""

    index: int
    value: Tensor


class Applying:
    """The networks of a plan, and the injectors that make its output, in one process.

    Raises:
        OptionsError: when the options do not say what to write, or it cannot be made.
        RunError: when networks cannot be built, such as when weights are missing.
    """

    def __init__(self, plan: Plan, device: str | torch.device | None = None) -> None:
        self.plan = plan.fresh()
        self.application = application_of(self.plan)
        self.world = World(plan.sections.gpu_ids, device)
        if self.world.processes > 1:
            raise RunError("networks are applied in one process; start it without torchrun")
        self.networks, self.origins = build.networks(self.plan, self.world)
        TakingPart(self.networks).loaded()
        averages, begun = build.averages(self.plan, self.networks)
        self.origins += begun
        self.known = build.named(self.networks, {name: average.network for name, average in averages.items()})
        self.precision = build.precision(self.plan, self.world)
        for call in dict.fromkeys(call for one in self.application.passes.values() for call in one.injectors):
            build.set_up(call, self.world.device)
            call.part.advance(0, 1)

    def feed(self, phase: str, dataset: Dataset[Any]) -> Iterator[Fetched]:
        """The batches of an opened dataset, all samples once."""
        return iter(every_batch(self.plan, phase, dataset, self.world.device))

    @torch.no_grad()
    def outputs(
        self,
        phase: str,
        fetched: Fetched,
        more: Mapping[str, Any] | None = None,
        other: Mapping[str, str] | None = None,
    ) -> list[Output]:
        """What becomes of the samples of a batch, but for those that cannot be used; on the device.

        `more` keys join the batch; `other` names networks that stand in for some.
        """
        one = self.application.passes[phase]
        known = {**self.known, **{name: self.known[instead] for name, instead in (other or {}).items()}}
        start = fetched.after.offset - len(fetched.names)
        self.world.seed_alike(mix(self.plan.sections.eval.seed, start))
        (micro,) = split({**fetched.batch, **(more or {})}, sorted(one.inputs), 1, self.world.device)
        modules: list[nn.Module] = [*known.values(), *(call.part for call in one.injectors)]
        with measuring(modules), self.precision.cast():
            for call in one.at(math.inf):
                Bound(call, known).inject(micro.state)
        value = micro.state[self.application.output]
        if not isinstance(value, Tensor) or not value.dim() or len(value) != len(fetched.names):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise RunError(f"{self.application.output!r} is {shape} of {len(fetched.names)} samples; expected one each")
        return [Output(start + place, image) for place, image in enumerate(value) if place not in fetched.replaced]


def phases_of(plan: Plan) -> list[str]:
    """The datasets that `gradloom test` takes: of a file that trains the one called `test`, if there is one."""
    phases = [phase for phase in application_of(plan).passes if phase != "video"]
    return ["test"] if "test" in phases and plan.sections.trains else phases


def look_first(plan: Plan, phases: Sequence[str], say: Callable[[str], None]) -> Mapping[str, Dataset[Any]]:
    """The opened datasets, if nothing is found wrong with what is to be made of them.

    Raises:
        OptionsError: when it would fail.
    """
    report = look_at_application(plan, application_of(plan), phases)
    if report.faults:
        raise OptionsError(report.faults)
    for notice in report.notices:
        say(f"notice: {notice}")
    return report.datasets


def application_of(plan: Plan) -> Application:
    """What the options say to write.

    Raises:
        OptionsError: when they do not, or it cannot be made.
    """
    root = plan.document.root
    if plan.application is None:
        missing = "nothing says what to write; add eval: {output_state: <a state key>}"
        raise OptionsError([root.fault(missing)] if root else [])
    low, high = plan.sections.image_normalization_range
    if root and low >= high:
        raise OptionsError([root.fields["image_normalization_range"].fault(f"{high} has to be above {low}")])
    if plan.application.faults:
        raise OptionsError(plan.application.faults)
    return plan.application


def to_pictures(value: Tensor, low: float, high: float) -> Iterator[Tensor]:
    """Bytes of (channels, height, width), of an image or of several; `low` becomes black and `high` white.

    Raises:
        RunError: for what is no image.
    """
    if value.dim() == 4:
        for image in value:
            yield from to_pictures(image, low, high)
        return
    if value.dim() != 3 or len(value) == 2:
        raise RunError(f"an output of {tuple(value.shape)} is no image: expected (channels, height, width)")
    image = value[: 4 if len(value) == 4 else 3].float().cpu()
    yield ((image - low) / (high - low)).clamp(0, 1).mul(255).round().byte()


def results_folder(plan: Plan, dataset: str) -> Path:
    """Where outputs go: `path.results_root`, or `results/` of the checkout or working directory; a folder each run."""
    root = plan.sections.path.results_root
    if root is None:
        checkout = Path(__file__).resolve().parents[3]
        root = (checkout if (checkout / "codes" / "gradloom").is_dir() else Path.cwd()) / "results"
    told = plan.datasets[dataset].recipe.node.get("name")
    return root / plan.name / (str(told.value) if told and told.value else dataset)
