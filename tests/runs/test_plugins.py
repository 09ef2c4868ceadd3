"""Each kind of extension takes one file, brought in by `plugins`, and no other edit."""

from pathlib import Path

import pytest

import gradloom

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
