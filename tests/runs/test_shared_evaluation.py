"""What two and four processes measure is, to the bit, what one measures; and they fail, stop and go on together."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

import gradloom
from alongside import alongside
from gradloom import Evaluator, Injector, Read, Write
from gradloom.engine.data.feed import open_dataset
from gradloom.engine.folder import RunFolder
from gradloom.engine.hooks.evaluation import Evaluation
from gradloom.engine.hooks.hook import Run
from gradloom.engine.interrupts import Interrupted
from gradloom.engine.log import Log, Silent
from gradloom.engine.world import World
from making import plan_of

LENGTH = 21


@gradloom.datasets.register("shared_images")
class Images(Dataset[dict[str, Tensor]]):
    """Images that are drawn anew each epoch; some cannot be."""

    keys = ("hq", "label")

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index in self.bad:
            raise OSError("gone")
        return {"hq": torch.rand(3, 12, 12) * (index + 1) / LENGTH, "label": torch.tensor(index % 4)}


@gradloom.networks.register("shared_generator")
class Generator(nn.Conv2d):
    """One layer; it also counts how often it is called."""

    calls = 0

    def __init__(self) -> None:
        super().__init__(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        Generator.calls += 1
        return super().forward(x)


@gradloom.networks.register("shared_classifier")
class Classifier(nn.Sequential):
    """Logits, or features."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(432, 8), nn.Tanh(), nn.Linear(8, 4))

    def features(self, x: Tensor) -> Tensor:
        return nn.functional.tanh(self[1](self[0](x)))


class Whole(Evaluator, type="shared_whole"):
    """Sees all batches in each process: the mean, and how many; it draws as well."""

    value: Read

    def reset(self) -> None:
        self.shown: list[Tensor] = []

    def forward(self, value: Tensor) -> object:
        self.shown.append(value + torch.rand(1))
        return object()  # which nobody takes

    def compute(self) -> Mapping[str, float]:
        return {"mean": float(torch.cat(self.shown).mean()), "count": len(torch.cat(self.shown))}


class Borrowed(Evaluator, type="shared_borrowed"):
    """A sum of torchmetrics, which itself sums over processes unless told otherwise."""

    value: Read

    def setup(self) -> None:
        self.sum = torchmetrics.SumMetric()

    def reset(self) -> None:
        self.sum.reset()

    def forward(self, value: Tensor) -> None:
        self.sum.update(value.double().sum())

    def compute(self) -> Mapping[str, float]:
        return {"sum": float(self.sum.compute())}


class Lent(Borrowed, type="shared_lent"):
    """The same in shares."""

    def forward(self, value: Tensor) -> Tensor:
        return value.double().sum()

    def add(self, found: Tensor) -> None:
        self.sum.update(found)


class Fails(Evaluator, type="shared_fails"):
    """Fails at a batch, in the process that has it."""

    value: Read
    how: str

    def forward(self, value: Tensor) -> Tensor:
        return value

    def reset(self) -> None:
        self.batches = 0

    def add(self, found: Tensor) -> None:
        self.batches += 1
        if self.how == "adding" and self.batches == 2:
            raise ValueError("cannot add")

    def compute(self) -> Mapping[str, float]:
        raise gradloom.RunError("cannot compute")


class Trips(Injector, type="shared_trips"):
    """Fails at one batch, of one label."""

    in_: Read
    label: Read
    out: Write
    how: str = ""

    def forward(self, in_: Tensor, label: Tensor) -> Tensor:
        labels = label.tolist()
        if self.how == "interrupts" and labels == [0, 1, 2, 3] and int(os.environ["RANK"]) == World().processes - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if labels == [0]:  # the last batch, of one sample
            if self.how == "diverges":
                raise gradloom.Diverged("it has diverged")
            if self.how == "errs":
                raise KeyError("a mistake")
        return in_


class Odd(Evaluator, type="shared_odd"):
    """Finds what cannot be sent."""

    value: Read

    def forward(self, value: Tensor) -> object:
        return {"x": [nn.Identity()]}

    def add(self, found: object) -> None:
        """Take it."""

    def compute(self) -> Mapping[str, float]:
        return {"shared_odd": 1.0}


OPTIONS = """
name: run
datasets:
  train: {mode: shared_images, batch_size: 4}
  val: {mode: shared_images, batch_size: 4}
networks:
  generator: {which_model: shared_generator}
  classifier: {which_model: shared_classifier, trainable: false}
steps:
  step:
    training: generator
    optimizer: sgd
    optimizer_params: {lr: 1e-3}
    injectors:
      noisy: {type: add_noise, in: hq, out: noisy, scale: 0.3}
      made: {type: generator, generator: generator, in: noisy, out: fake}
    losses:
      near: {type: pix, criterion: l2, fake: fake, real: hq}
eval:
  at_start: true
  pure: true
  injectors:
    logits: {type: generator, generator: classifier, in: fake, out: logits}
  evaluators: %s
train: {niter: 4, val_freq: 100}
logger: {print_freq: 4, save_checkpoint_freq: 100}
use_tb_logger: false
"""
ALL = """{
    fid: {type: fid, fake: fake, real: hq, network: classifier},
    kid: {type: kid, fake: fake, real: hq, network: classifier, subset_size: 7, subsets: 9},
    psnr: {type: psnr, fake: fake, real: hq, against: noisy, per_image: true},
    ssim: {type: ssim, fake: fake, real: hq},
    accuracy: {type: accuracy, logits: logits, labels: label},
    mean: {type: mean, value: fake},
    grid: {type: grid, images: [fake, hq], count: 10},
    whole: {type: shared_whole, value: fake},
    borrowed: {type: shared_borrowed, value: fake},
    lent: {type: shared_lent, value: fake},
    average: {type: mean, value: fake, for: generator.ema},
    around: {type: fid, fake: fake, real: hq, network: classifier, samples: 50},
    kid_around: {type: kid, fake: fake, real: hq, network: classifier, samples: 50, subset_size: 30, subsets: 3},
    few: {type: psnr, fake: fake, real: hq, samples: 3, per_image: true},
    few_shown: {type: grid, images: [fake], samples: 3},
}"""
OWN = """{
    enlarged: {type: fid_for_structural_nets, for: generator, network: classifier, batch_size: 4, scale: 1, lq: hq,
               dataset: {mode: shared_images, bad: [%s]}},
    styled: {type: style_transfer, for: generator.ema, network: classifier, batch_size: 2, batches_per_eval: 7,
             image_size: 12, real_fid_path: %s},
}"""
TRIP = "eval.injectors.trip={type: shared_trips, in: hq, label: label, out: tripped, how: %s}"
ONE = "{one: {type: mean, value: tripped}}"


class Heard(Silent):
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.pictures: dict[str, list[Any]] = {}
        self.said: list[str] = []

    def scalars(self, kind: Any, iteration: int, values: Mapping[str, float], notes: Mapping[str, str]) -> None:
        self.notes |= notes

    def image(self, key: str, iteration: int, picture: Tensor) -> None:
        self.pictures[key] = picture.tolist()

    def say(self, text: str) -> None:
        self.said.append(text)


def measured(folder: Path, evaluators: str, *changes: str) -> dict[str, Any]:
    """Measure before the first iteration, and tell what was heard, or the error."""
    plan = plan_of(OPTIONS % evaluators, f"path.experiments_root={folder}", *changes)
    trainer, heard = gradloom.ExtensibleTrainer(plan, device="cpu"), Heard()
    run = Run(trainer, RunFolder(plan), Log([heard]))
    trainer.emas["generator"].bias += 0.1
    noise = torch.get_rng_state()
    Generator.calls = 0
    try:
        Evaluation(trainer, {phase: open_dataset(dataset) for phase, dataset in plan.datasets.items()}).start(run)
    except Exception as error:
        return {"error": [type(error).__name__, str(error)], "said": heard.said}
    assert torch.equal(noise, torch.get_rng_state())
    return {
        "values": run.news, "notes": heard.notes, "pictures": heard.pictures, "said": heard.said,
        "calls": Generator.calls,
    }  # fmt: skip


def interrupted(folder: Path) -> dict[str, Any]:
    """Be asked to stop, in one process, while all measure after the last but one iteration; then go on."""
    changes = (f"path.experiments_root={folder}", "eval.at_start=false", "train.val_freq=2")
    plan = plan_of(OPTIONS % ONE, *changes, TRIP % "interrupts")
    try:
        gradloom.ExtensibleTrainer(plan, device="cpu").fit()
    except Interrupted as error:
        ending = [error.number, str(error)]
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    plan = plan_of(OPTIONS % ONE, *changes, TRIP % '""')
    trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
    trainer.fit(resume=True)
    trainer.world.gather(None)  # so that the first has written
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return {
        "ending": ending, "early": [row["kind"] for row in rows],
        "rows": [(row["kind"], row["iteration"]) for row in map(json.loads, lines)],
    }  # fmt: skip


def everything(folder: Path) -> dict[str, Any]:
    """All that is to be seen of so many processes."""
    return {
        "all": measured(folder, ALL),
        "diverges": measured(folder, ONE, TRIP % "diverges"),
        "errs": measured(folder, ONE, TRIP % "errs"),
        "adding": measured(folder, "{one: {type: shared_fails, value: hq, how: adding}}"),
        "computing": measured(folder, "{one: {type: shared_fails, value: hq, how: computing}}"),
        "too_few": measured(folder, "{kid: {type: kid, fake: hq, real: hq, network: classifier}}"),
        "odd": measured(folder, "{odd: {type: shared_odd, value: hq}}"),
        "bad": measured(folder, "{mean: {type: mean, value: hq}}", *bad(2)),
        "too_bad": measured(folder, "{mean: {type: mean, value: hq}}", *bad(1)),
        "own": measured(folder, OWN % ("", folder / "images"), "eval.pure=false"),
        "own_bad": measured(folder, OWN % (6, folder / "images"), "eval.pure=false"),
        "interrupted": interrupted(folder),
    }


def bad(most: int) -> tuple[str, ...]:
    return (f"datasets.val={{mode: shared_images, batch_size: 4, bad: [6, 18], max_bad: {most}}}",)


COUNTS = (1, 2, 4)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What one, two and four processes found."""
    return {
        count: alongside(count, everything, _with_images(tmp_path_factory.mktemp(f"of_{count}"))) for count in COUNTS
    }


def _with_images(folder: Path) -> Path:
    (folder / "images").mkdir()
    for number in range(5):
        pixels = torch.randint(256, (14, 12, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / "images" / f"{number}.png")
    return folder


several = pytest.mark.parametrize("count", COUNTS[1:])


@several
def test_the_numbers_are_those_of_one_process_to_the_bit(found: dict[int, Any], count: int) -> None:
    (alone,) = found[1]
    values = alone["all"]["values"]
    assert {"fid", "kid", "kid/std", "psnr/gain", "psnr/image_20", "ssim", "accuracy", "whole/count"} <= values.keys()
    assert values["whole/count"] == LENGTH and values["mean"] != values["average"] != 0
    assert values["borrowed/sum"] == values["lent/sum"]
    for process in found[count]:
        assert process["all"]["values"] == values


@several
def test_batches_of_an_evaluators_own_data_are_shared_too(found: dict[int, Any], count: int) -> None:
    (alone,) = found[1]
    assert alone["own"]["values"].keys() == {"enlarged/fid", "styled/fid"}
    assert "21 generated and 21 real" in alone["own"]["notes"]["enlarged/fid"]
    assert "14 generated and 5 real" in alone["own"]["notes"]["styled/fid"]
    batches = {"enlarged": 6, "styled": 3}
    assert alone["own"]["calls"] == batches["enlarged"] + 3 * batches["styled"]  # five images each, two at a time
    for process in found[count]:
        assert process["own"]["values"] == alone["own"]["values"]
        assert process["own"]["calls"] == -(-batches["enlarged"] // count) + 3 * -(-batches["styled"] // count)
        assert "eval.evaluators.enlarged.dataset: sample 6 cannot be used" in process["own_bad"]["error"][1]


@several
def test_pictures_and_notes_are_those_of_one_process_and_come_from_the_first(found: dict[int, Any], count: int) -> None:
    (alone,) = found[1]
    first, *others = (process["all"] for process in found[count])
    assert sorted(first["pictures"]) == ["few_shown/fake", "grid/fake", "grid/hq"]
    assert first["pictures"] == alone["all"]["pictures"] and first["notes"] == alone["all"]["notes"]
    assert not any(other["pictures"] for other in others)


@several
def test_networks_are_called_equally_often_and_no_more_than_needed(found: dict[int, Any], count: int) -> None:
    batches = {LENGTH: 6, 50: 13, 3: 1}
    each = batches[LENGTH]
    shared = [each, each, batches[50], batches[3], each]  # live and averaged weights; around; few; losses
    calls = sum(-(-number // count) for number in shared) + each  # what cannot be shared
    assert [process["all"]["calls"] for process in found[count]] == [calls] * count


@pytest.mark.parametrize("count", COUNTS)
def test_a_process_that_fails_lets_none_wait(found: dict[int, Any], count: int) -> None:
    last = LENGTH // 4 % count  # the first process that measures the last batch; those after it do so too
    for number, process in enumerate(found[count]):
        assert process["diverges"]["error"] == ["Diverged", "it has diverged"]
        assert process["errs"]["error"] == (
            ["KeyError", "'a mistake'"]
            if number == last
            else ["RunError", f"process {last} failed: KeyError: 'a mistake'"]
        )
        assert process["adding"]["error"] == (
            ["ValueError", "cannot add"] if number == 0 else ["RunError", "process 0 failed: ValueError: cannot add"]
        )
        assert process["computing"]["error"] == ["RunError", "cannot compute"]


@pytest.mark.parametrize("count", COUNTS)
def test_too_few_samples_are_told_alike(found: dict[int, Any], count: int) -> None:
    message = (
        "kid: needs as many images at 'fake' as a subset has, 1000, got 21; lower subset_size, or measure more samples"
    )
    assert [process["too_few"]["error"] for process in found[count]] == [["RunError", message]] * count


@several
def test_what_cannot_be_sent_is_refused(found: dict[int, Any], count: int) -> None:
    message = (
        "eval.evaluators.odd: what 'forward' returns goes to another process: tensors, numbers, words, and tuples, "
        "lists or dicts of them; not a Identity"
    )
    assert found[1][0]["odd"]["values"]["odd"] == 1.0
    assert [process["odd"]["error"] for process in found[count]] == [["RunError", message]] * count


@several
def test_bad_samples_are_counted_over_all_processes(found: dict[int, Any], count: int) -> None:
    (alone,) = found[1]
    assert len(alone["bad"]["said"]) == 2 and "(2 of at most 2)" in alone["bad"]["said"][1]
    assert "that makes 2, and max_bad allows 1" in alone["too_bad"]["error"][1]
    for process in found[count]:
        assert process["bad"] == alone["bad"] | {"notes": process["bad"]["notes"], "calls": process["bad"]["calls"]}
        assert process["too_bad"] == alone["too_bad"]


@pytest.mark.parametrize("count", COUNTS)
def test_a_signal_to_one_process_puts_the_evaluation_off_in_all(found: dict[int, Any], count: int) -> None:
    for process in found[count]:
        assert process["interrupted"]["ending"] == [signal.SIGTERM, "stopped after 2 iterations; go on with --resume"]
        assert process["interrupted"]["early"] == []
        assert process["interrupted"]["rows"] == [("eval", 2), ("train", 4), ("eval", 4)]
