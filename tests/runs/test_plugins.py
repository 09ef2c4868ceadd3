"""Each kind of extension takes one file, brought in by `plugins`, and no other edit."""

import copy
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch

import gradloom
from gradloom.config.binding import make
from gradloom.config.source import parse
from gradloom.engine.preflight.look import look_ahead
from gradloom.plan.schema import annotated

PARTS = {
    "blend.py": '''
"""An injector."""
from gradloom import Injector, Read, Scheduled, Write

class Blend(Injector, type="plugin_blend"):
    """Mixes two keys."""

    first: Read
    second: Read
    out: Write
    amount: Scheduled = 0.5

    def forward(self, first, second):
        return first.lerp(second, self.amount)
''',
    "quartic.py": '''
"""A loss."""
from gradloom import Loss, Read

class Quartic(Loss, type="plugin_quartic"):
    """The mean fourth power of a difference."""

    real: Read
    fake: Read
    power: int = 4

    def forward(self, real, fake):
        return (real - fake).pow(self.power).mean(), {"largest": (real - fake).detach().abs().max()}
''',
    "spread.py": '''
"""An evaluator."""
from gradloom import Evaluator, Read

class Spread(Evaluator, type="plugin_spread"):
    """The range of a key's values."""

    value: Read

    def reset(self):
        self.low, self.high = float("inf"), float("-inf")

    def forward(self, value):
        self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))

    def compute(self):
        return {"plugin_spread": self.high - self.low}
''',
    "line.py": '''
"""A network."""
from torch import nn
import gradloom

@gradloom.networks.register("plugin_line")
class Line(nn.Module):
    """A line."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size)

    def forward(self, x):
        return self.layer(x)
''',
    "points.py": '''
"""A dataset."""
import torch
import gradloom

@gradloom.datasets.register("plugin_points")
class Points(torch.utils.data.Dataset):
    """Random points."""

    keys = ("x", "y")

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        return {"x": torch.randn(2), "y": torch.ones(2)}
''',
}

OPTIONS = """
name: plugged
plugins: [blend.py, quartic.py, spread.py, line.py, points.py]
datasets:
  train: {mode: plugin_points, count: 20, batch_size: 5}
  val: {mode: plugin_points, count: 6, batch_size: 4}
networks:
  line: {which_model: plugin_line, size: 2}
steps:
  fit:
    training: line
    optimizer: sgd
    optimizer_params: {lr: 0.05}
    injectors:
      mixed: {type: plugin_blend, first: x, second: y, out: mixed, amount: {linear: {from: 0, to: 1, end: 8}}}
      guess: {type: generator, generator: line, in: mixed, out: guess}
    losses:
      near: {type: plugin_quartic, real: y, fake: guess, power: 2}
eval:
  evaluators:
    spread: {type: plugin_spread, value: guess}
train: {niter: 12}
logger: {print_freq: 4}
"""


@pytest.fixture
def options(tmp_path: Path) -> Path:
    for name, text in PARTS.items():
        (tmp_path / name).write_text(text)
    file = tmp_path / "options.yml"
    file.write_text(OPTIONS + f"path: {{experiments_root: {tmp_path / 'runs'}}}\n")
    return file


def test_one_file_is_enough(options: Path) -> None:
    trainer = gradloom.ExtensibleTrainer(gradloom.load(options), device="cpu")
    trainer.fit()
    lines = (options.parent / "runs" / "plugged" / "metrics.jsonl").read_text()
    assert '"fit/near/largest"' in lines
    assert '"spread"' in lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "steps.fit.injectors.mixed.amuont=1",
            "steps.fit.injectors.mixed.amuont: unknown option; did you mean 'amount'?",
        ),
        ("steps.fit.losses.near.power=much", "steps.fit.losses.near.power: expected a whole number, got str 'much'"),
        ("steps.fit.losses.near.fake=guss", "reads 'guss', which nothing before it writes; did you mean 'guess'?"),
        ("networks.line.size=[2]", "networks.line.size: expected a whole number"),
        ("datasets.train.count=few", "datasets.train.count: expected a whole number, got str 'few'"),
        ("eval.evaluators.spread.value=5", "eval.evaluators.spread.value: expected a state key, got int 5"),
    ],
)
def test_a_plugins_options_are_checked_like_any(options: Path, change: str, message: str) -> None:
    with pytest.raises(gradloom.OptionsError) as refused:
        gradloom.load(options, set=[change])
    assert message in str(refused.value)


def test_a_part_whose_ports_do_not_match_is_refused_when_it_is_defined() -> None:
    with pytest.raises(TypeError, match=r"Wrong.forward takes \['reel'\], its ports are \['real'\]"):

        class Wrong(gradloom.Loss, type="plugin_wrong"):
            """Misspells a port."""

            real: gradloom.Read

            def forward(self, reel):  # type: ignore[no-untyped-def]
                return reel.mean()


OWN = "from gradloom import Loss, Read\n\nclass Mine(Loss, type='plugin_mine'):\n    value: Read\n\n"
FORWARD = "    def forward(self, value):\n        return value.mean()\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "Mine has no method 'forward'"),
        (
            f"    def __init__(self, value):\n        self.value = value\n{FORWARD}",
            "Mine has an __init__ of its own, but",
        ),
        (f"    def __post_init__(self):\n        self.a = 2\n{FORWARD}", "has to call super().__post_init__()"),
        (f"    reads: float = 1\n{FORWARD}", "Mine.reads: every part has a 'reads'; write 'reads_'"),
        (f"    training: bool = True\n{FORWARD}", "Mine.training: every part has a 'training'; write 'training_'"),
        (f"    every: str = 'x'\n{FORWARD}", "Mine.every: 'every' says when any part is on; choose another name"),
    ],
)
def test_a_part_that_could_not_work_is_refused_when_it_is_defined(body: str, message: str) -> None:
    with pytest.raises(TypeError) as refused:
        exec(OWN + body, {"__name__": "a_plugin"})
    assert message in str(refused.value)


def test_an_evaluator_without_numbers_is_refused_when_it_is_defined() -> None:
    with pytest.raises(TypeError, match="Silent has no method 'compute'"):

        class Silent(gradloom.Evaluator, type="plugin_silent"):
            """Forgets to say what it found."""

            value: gradloom.Read

            def forward(self, value):  # type: ignore[no-untyped-def]
                return value


def test_a_part_may_be_called_a_dataclass_once_more() -> None:
    @dataclass
    class Twice(gradloom.Loss, type="plugin_twice"):
        """A dataclass already."""

        value: gradloom.Read

        def forward(self, value):  # type: ignore[no-untyped-def]
            return value.mean()

    part = Twice(value="x")
    assert [*part.whole()] == [part]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("error.item()", "a loss is a single number in a tensor, got a float"),
        ("error, {'worst': error.item()}", "single numbers in tensors; 'worst' is a float"),
        ("error, {'each': (real - fake).detach()}", r"single numbers in tensors; 'each' has the shape (5, 2)"),
        ("error, error", "a number and a mapping of metrics, not 2 values"),
    ],
)
def test_what_a_loss_wrongly_returns_is_told_with_its_place(options: Path, returned: str, message: str) -> None:
    loss = PARTS["quartic.py"].replace('"plugin_quartic"', '"plugin_wrong_loss"')
    body = (
        loss.partition("        return ")[0]
        + f"        error = (real - fake).abs().mean()\n        return {returned}\n"
    )
    (options.parent / "quartic.py").write_text(body)
    trainer = gradloom.ExtensibleTrainer(
        gradloom.load(options, set=["steps.fit.losses.near.type=plugin_wrong_loss"]), device="cpu"
    )
    with pytest.raises(gradloom.RunError) as failed:
        trainer.train_step({"x": torch.randn(5, 2), "y": torch.ones(5, 2)})
    assert str(failed.value).startswith("steps.fit.losses.near: ")
    assert message in str(failed.value)


def test_who_fits_again_is_told_before_the_finished_run_is_moved_aside(options: Path) -> None:
    trainer = gradloom.ExtensibleTrainer(gradloom.load(options), device="cpu")
    trainer.fit()
    with pytest.raises(gradloom.RunError, match=r"12 iterations are done already; raise train\.niter"):
        trainer.fit()
    assert [run.name for run in (options.parent / "runs").iterdir()] == ["plugged"]
    with pytest.raises(gradloom.RunError, match="is a whole checkpoint; name a file in it"):
        gradloom.load_network(options.parent / "runs" / "plugged" / "checkpoints" / "12")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("3.5", "eval.evaluators.spread: compute() returns numbers by name, got a float"),
        ("{'low': 'few'}", "eval.evaluators.spread: compute() returns numbers; 'low' is none: could not convert"),
    ],
)
def test_what_an_evaluator_wrongly_computes_is_told_with_its_place(options: Path, returned: str, message: str) -> None:
    body = PARTS["spread.py"].replace("plugin_spread", "plugin_odd").partition("        return {")[0]
    (options.parent / "spread.py").write_text(f"{body}        return {returned}\n")
    plan = gradloom.load(options, set=["eval.evaluators.spread.type=plugin_odd"])
    with pytest.raises(gradloom.RunError) as failed:
        gradloom.ExtensibleTrainer(plan, device="cpu").fit()
    assert message in str(failed.value)


def test_a_method_that_takes_something_else_is_found_before_the_run(options: Path) -> None:
    text = (
        PARTS["line.py"].replace("plugin_line", "plugin_bent")
        + "\n    def update_for_step(self, step, folder):\n        pass\n"
    )
    (options.parent / "line.py").write_text(text)
    report = look_ahead(gradloom.load(options, set=["networks.line.which_model=plugin_bent"]), torch.device("cpu"))
    (fault,) = report.faults
    assert fault.path == "networks.line"
    assert fault.message.startswith("its method 'update_for_step' is given iteration, but: missing a required argument")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"keys": "hq"}, 'keys is str; write a tuple such as ("hq",), or a class method that takes the options'),
        ({"keys": property(lambda self: ("hq",))}, "keys is property; write a tuple"),
        ({"keys": lambda self: ("hq",)}, "keys is function; write a tuple"),
        ({"__len__": None, "__getitem__": None}, ""),
    ],
)
def test_a_dataset_that_cannot_be_asked_is_refused_when_it_is_defined(body: dict[str, Any], message: str) -> None:
    parents = (torch.utils.data.Dataset,) if message else (torch.utils.data.IterableDataset,)
    methods = {"__len__": lambda self: 1, **body} if message else {}
    with pytest.raises(TypeError, match=re.escape(message or "samples are asked for by index; write __len__ and")):
        gradloom.datasets.register("plugin_odd_data")(type("Odd", parents, methods))


class Way(Enum):
    """What an option may be."""

    NEAR = "near"
    FAR = "far"


class Chosen(gradloom.Loss, type="plugin_chosen"):
    """Has an option that is one of an enumeration's values."""

    value: gradloom.Read
    way: Way = Way.NEAR

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value.mean() if self.way is Way.NEAR else value.std()


def test_an_enumerations_values_are_what_options_say() -> None:
    faults: list[gradloom.Fault] = []
    for way in ("far", "fra"):
        node, _ = parse(f"{{value: x, way: {way}}}", "x.yml")
        assert node is not None
        part = make(Chosen, node, faults)
        assert part is None or part.way is Way.FAR
    assert [fault.message for fault in faults] == ["expected one of near, far, got str 'fra'"]
    assert annotated(Way) == {"enum": ["near", "far"]}


def test_a_trainer_can_be_copied_while_it_trains(options: Path) -> None:
    batch = {"x": torch.randn(5, 2), "y": torch.ones(5, 2)}
    trainer = gradloom.ExtensibleTrainer(gradloom.load(options, set=["steps.fit.optimizer=adam"]), device="cpu")
    trainer.train_step(batch)
    double = copy.deepcopy(trainer)
    for one in (trainer, double):
        one.train_step(batch)
    for ours, its in zip(trainer.networks["line"].parameters(), double.networks["line"].parameters(), strict=True):
        assert torch.equal(ours, its)
        assert ours is not its
