"""What a plugin does besides training."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import gradloom
from gradloom.errors import OptionsError, RunError
from making import plan_of

DIGITS = """
datasets:
  train: {mode: digits, image_size: 8, n1_to_1: true, batch_size: 64}
networks:
  classifier: {which_model: small_classifier, image_size: 8, channels: 1, num_classes: 10, width: 2}
steps:
  learn:
    training: classifier
    optimizer_params: {lr: 1e-3}
    injectors:
      guess: {type: generator, generator: classifier, in: hq, out: logits}
    losses:
      classes: {type: cross_entropy, logits: logits, labels: label}
train: {niter: 6}
logger: {print_freq: 6}
use_tb_logger: false
"""


class Watched(gradloom.Hook, type="test_watched"):
    """Notes what it is told; ends the run after so many iterations."""

    made: list["Watched"] = []

    def __init__(self, every: int = 1, last: int | None = None) -> None:
        if every < 1:
            raise ValueError("'every' has to be 1 or more")
        self.every, self.last = every, last
        self.seen: list[Any] = []
        self.shapes: list[tuple[int, ...]] = []
        Watched.made.append(self)

    def keeps(self, iteration: int) -> frozenset[str]:
        return frozenset({"logits"})

    def start(self, run: gradloom.Run) -> None:
        self.seen.append("start")

    def after_iteration(self, run: gradloom.Run, metrics: dict[str, Tensor]) -> None:
        if run.trainer.iteration % self.every == 0:
            self.seen.append((run.trainer.iteration, float(metrics["learn/total"])))
            self.shapes += [tuple(micro.state["logits"].shape) for micro in run.trainer.states]
            run.report("hook", {"watched": float(len(self.seen))})
        if run.trainer.iteration == self.last:
            run.ending = "seen enough"

    def finish(self, run: gradloom.Run) -> None:
        self.seen.append("finish")

    def state(self) -> dict[str, Any]:
        return {"seen": [str(one) for one in self.seen]}

    def load(self, state: Any) -> None:
        self.seen = [*state["seen"]]


def run(options: str, folder: Path, *more: str, resume: bool = False) -> tuple[Watched, str]:
    plan = plan_of(DIGITS + f"hooks:\n  mine: {options}\n", f"path.experiments_root={folder}", "name=watched", *more)
    gradloom.Trainer(plan, device="cpu").fit(resume=resume)
    return Watched.made[-1], (folder / "watched" / "train.log").read_text()


def test_acts_at_the_start_after_iterations_and_at_the_end(tmp_path: Path) -> None:
    hook, log = run("{type: test_watched, every: 2}", tmp_path)
    assert [one if isinstance(one, str) else one[0] for one in hook.seen] == ["start", 2, 4, 6, "finish"]
    assert hook.shapes == [(64, 10)] * 3
    assert "watched 4" in log


def test_ends_a_run_which_goes_on_with_what_it_remembered(tmp_path: Path) -> None:
    _, log = run("{type: test_watched, last: 2}", tmp_path)
    assert "seen enough" in log
    hook, _ = run("{type: test_watched}", tmp_path, resume=True)
    first = hook.seen[0]
    assert first == "start" and [one[0] for one in hook.seen if isinstance(one, tuple)] == [3, 4, 5, 6]


def test_what_it_refuses_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"hooks\.mine: 'every' has to be 1 or more"):
        run("{type: test_watched, every: 0}", tmp_path)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("{type: test_watchd}", "hooks.mine.type: no hook is called 'test_watchd'; did you mean 'test_watched'?"),
        ("{type: test_watched, evry: 2}", "hooks.mine.evry: unknown option; did you mean 'every'?"),
        ("{type: test_watched, every: often}", "hooks.mine.every: expected a whole number, got str 'often'"),
        ("test_watched", "hooks.mine: expected options such as 'type', got str 'test_watched'"),
    ],
)
def test_mistakes_in_options_are_faults(options: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as refused:
        run(options, tmp_path)
    assert [why in str(fault) for fault in refused.value.faults] == [True]


def test_two_plugins_do_not_give_one_name(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / f"{name}.py").write_text("import gradloom\nclass H(gradloom.Hook, type='test_shared'): pass\n")
    (tmp_path / "x.yml").write_text(DIGITS + "name: x\nplugins: [one.py, other.py]\nhooks: {h: {type: test_shared}}\n")
    with pytest.raises(OptionsError, match=r"one\.py has the hook 'test_shared' too; name one of them otherwise"):
        gradloom.load(tmp_path / "x.yml")
