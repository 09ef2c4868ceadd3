"""What is said when a part does what it should not: the part, its place in the options, and its author's line."""

import re
from pathlib import Path
from textwrap import dedent, indent

import pytest

import gradloom
from gradloom import cli

PARTS = """
import sys
import torch
from torch import nn
import gradloom


@gradloom.datasets.register("failing_points")
class Points(torch.utils.data.Dataset):
    keys = ("x", "y")

    def __init__(self, count: int = 8) -> None:
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"x": torch.full((4,), index / self.count), "y": torch.ones(4)}


@gradloom.networks.register("failing_network")
class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        real = x.device.type != "meta"
        y = self.layer(x)
        return y

METHODS

class Measure(gradloom.Evaluator, type="failing_measure"):
    value: gradloom.Read

    real = False  # whether it has seen values

    def forward(self, value):
        self.real = value.device.type != "meta"

    def compute(self):
        return {"failing_measure": 1.0}

EVALUATOR
"""

OPTIONS = """
name: run
plugins: [parts.py]
datasets:
  train: {mode: failing_points, batch_size: 4}
  val: {mode: failing_points, batch_size: 4}
networks:
  net: {which_model: failing_network}
steps:
  step:
    training: net
    optimizer: adam
    optimizer_params: {lr: 1e-2}
    injectors:
      call: {type: generator, generator: net, in: x, out: guess}
    losses:
      pix: {type: pix, criterion: l2, real: y, fake: guess}
eval:
  evaluators:
    measure: {type: failing_measure, value: guess}
train: {niter: 2, val_freq: 1}
logger: {print_freq: 1}
use_tb_logger: false
"""


def ran(
    folder: Path, *overrides: str, returned: str = "y", network: str = "", evaluator: str = "", options: str = OPTIONS
) -> int:
    """Run with parts that are changed: what the network returns, and methods that it or the evaluator has besides."""
    text = PARTS.replace("        return y\n", f"        return {returned}\n")
    text = text.replace("METHODS", indent(dedent(network), "    ")).replace(
        "EVALUATOR", indent(dedent(evaluator), "    ")
    )
    (folder / "parts.py").write_text(text)
    file = folder / "options.yml"
    file.write_text(options + f"path: {{experiments_root: {folder}}}\n")
    return cli.main(["-opt", str(file), *(["--set", *overrides] if overrides else [])])


def test_what_does_not_suit_one_of_our_parts_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, returned="None if real else y") == 1
    told = capsys.readouterr().err
    assert re.search(
        r"^failed: AttributeError: .*; in steps\.step\.losses\.pix \(\S+options\.yml:17:7\), with real: \(4, 4\), "
        r"fake: NoneType; in iteration 0, on epoch 0, sample \d",
        told,
        re.MULTILINE,
    )
    assert "Traceback" not in told


def test_an_error_of_an_authors_own_line_keeps_its_traceback_and_has_its_place(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as raised:
        ran(tmp_path, returned="{}['missing'] if real else y")
    where, iteration = raised.value.__notes__
    assert re.fullmatch(r"in steps\.step\.injectors\.call \(.*options\.yml:15:7\), with generator: Network, .*", where)
    assert iteration.startswith("in iteration 0, on epoch 0, sample ")


def test_a_slip_of_what_runs_the_parts_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slip(*_: object) -> None:
        error = ZeroDivisionError("a slip")
        raise error

    slip.__code__ = slip.__code__.replace(co_filename=gradloom.engine.fit.__file__)
    monkeypatch.setattr(gradloom.Trainer, "_update", slip)
    with pytest.raises(ZeroDivisionError, match="a slip"):
        ran(tmp_path)


@pytest.mark.parametrize("when", ["sys.exit(0)", "sys.exit(0) if real else y"])
def test_a_part_that_exits_does_not_end_the_run_as_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    assert ran(tmp_path, returned=when) == 1
    assert "failed: parts.py, line 31 exits the program (0)\n" in capsys.readouterr().err


def test_the_check_names_the_authors_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, returned="{}['missing']") == 2
    told = capsys.readouterr().err
    assert "options.yml:15:7: steps.step.injectors.call: KeyError: 'missing', in parts.py, line 31; it got in" in told


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            "def get_debug_values(self, iteration):\n    return 5",
            "get_debug_values() returns numbers by name, got a int",
        ),
        (
            "def get_debug_values(self, iteration):\n    return {'a': torch.ones(3)}",
            "get_debug_values() returns numbers; 'a' is none: only one element",
        ),
        (
            "def get_debug_values(self, iteration):\n    return {'a\\n': 1}",
            "get_debug_values() returns numbers by name; 'a\\n' is no name, which is a word or more in one line",
        ),
        (
            "def get_grad_norm_parameter_groups(self):\n    return {'a': self.layer.weight}",
            "get_grad_norm_parameter_groups() returns lists of parameters; 'a' is or holds a Parameter",
        ),
        (
            "def get_grad_norm_parameter_groups(self):\n    return {'a': ['layer']}",
            "get_grad_norm_parameter_groups() returns lists of parameters; 'a' is or holds a str",
        ),
    ],
)
def test_what_a_networks_method_wrongly_returns_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, message: str
) -> None:
    assert ran(tmp_path, network=method) == 1
    assert f"failed: networks.net: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "method", ["update_for_step", "after_backward", "before_step", "after_step", "get_debug_values"]
)
def test_a_networks_method_that_fails_is_named(tmp_path: Path, method: str) -> None:
    with pytest.raises(KeyError) as raised:
        ran(tmp_path, network=f"def {method}(self, iteration):\n    raise KeyError('mine')")
    assert raised.value.__notes__[0] == "in networks.net"


@pytest.mark.parametrize("method", ["reset", "add", "compute", "images", "protocol"])
def test_an_evaluators_method_that_fails_is_named(tmp_path: Path, method: str) -> None:
    takes = "self, found" if method == "add" else "self"
    body = f"def {method}({takes}):\n    if self.real:\n        raise KeyError('mine')\n    return {{}}"
    with pytest.raises(KeyError) as raised:
        ran(tmp_path, evaluator=body)
    assert re.match(r"in eval\.evaluators\.measure \(.*options\.yml:20:5\)", raised.value.__notes__[0])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("def images(self):\n    return [torch.ones(1, 3, 4, 4)]", "images() returns images by name, got a list"),
        ("def images(self):\n    return {'a': 'b'}", "images() returns images in tensors; 'a' is a str"),
        ("def compute(self):\n    return {'a': 10**400}", "compute() returns numbers; 'a' is none: int too large"),
    ],
)
def test_what_an_evaluators_method_wrongly_returns_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, message: str
) -> None:
    late = method.replace("    return", "    return {} if not self.real else")
    assert ran(tmp_path, evaluator=late) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("def looks_at(self):\n    return 'x'", "looks_at() returns what is Shown, or None, got a str"),
        ("def looks_at(self):\n    raise ValueError('mine')", "ValueError: mine (in parts.py, line 47)"),
        ("def reads(self):\n    return 5", "reads() returns a tuple of names, got 5"),
        ("def check(self):\n    raise KeyError('mine')", "KeyError: 'mine' (in parts.py, line 47)"),
        ("def needs(self):\n    return ['file']", "TypeError: needs() returns what is a Need, got 'file'"),
    ],
)
def test_what_a_part_wrongly_says_of_itself_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, message: str
) -> None:
    assert ran(tmp_path, evaluator=method) == 2
    assert f"options.yml:20:5: eval.evaluators.measure: {message}\n" in capsys.readouterr().err


@pytest.mark.parametrize("keys", ["(1, 2)", "5", "classmethod(lambda cls, **_: [None])"])
def test_keys_that_are_no_words_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: str) -> None:
    options = OPTIONS.replace("mode: failing_points", "mode: failing_keys")
    odd = f"\n\n@gradloom.datasets.register('failing_keys')\nclass Keys(Points):\n    keys = {keys}\n"
    assert ran(tmp_path, evaluator="pass", options=options, network=f"pass{odd}") == 2
    assert "datasets.train: failing_keys: keys are a tuple of words, or None, got" in capsys.readouterr().err


def test_a_visual_that_is_no_tensor_is_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        OPTIONS.replace("fake: guess}", "fake: first}")
        .replace("value: guess", "value: x")
        .replace("out: guess}", "out: guess}\n      one: {type: failing_first, in: guess, out: first}")
    )
    first = """
    pass

class First(gradloom.Injector, type="failing_first"):
    in_: gradloom.Read
    out: gradloom.Write

    def forward(self, in_):
        return in_[0]
"""
    assert ran(tmp_path, "logger.visuals=[guess]", returned="(y, x)", network=first, options=options) == 0
    assert "'guess' (tuple) is no image: expected (batch, channels, height, width)" in capsys.readouterr().out
