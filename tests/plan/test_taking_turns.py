"""Injectors of one step that write one key, each in iterations of its own."""

import math
from pathlib import Path

import pytest
import torch

from making import GAN, gan_batch, trainer_of
from plan.planning import load, refused

TURNS = GAN.replace(
    "drawn: {type: generator, generator: generator, in: z, out: drawn}\n",
    """drawn: {type: generator, generator: generator, in: z, out: drawn}
          first: {type: direct, in: hq, out: target, before: 1}
          then: {type: generator, generator: generator.ema, in: z, out: target, after: 2, grad: false}
""",
).replace("real: hq, fake: drawn, weight", "real: target, fake: drawn, weight")
VAL = """
    datasets:
      val: {mode: test_pairs, batch_size: 4}
    eval:
      evaluators:
        mean: {type: mean, value: target}
"""


def test_each_runs_in_its_own_iterations() -> None:
    trainer, batch = trainer_of(TURNS), gan_batch()
    for iteration in range(4):
        with torch.no_grad():
            later = trainer.emas["generator"](batch["z"])
        trainer.train_step(batch, keep=["target"])
        expected = batch["hq"] if iteration < 2 else later
        torch.testing.assert_close(trainer.states[0].state["target"], expected, rtol=0, atol=0)


def test_what_is_measured_is_made_by_the_last_that_began(tmp_path: Path) -> None:
    (measure,) = load(tmp_path, TURNS + VAL).measures
    at = {iteration: [call.name for call in measure.at(iteration)] for iteration in (0, 1, 2, 50, math.inf)}
    assert at == {0: ["first"], 1: ["first"], 2: ["then"], 50: ["then"], math.inf: ["then"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("after=1", "writes 'target', already written by steps.generator_step.injectors.first ("),
        ("after=3", "injectors.first and steps.generator_step.injectors.then do not write in all these iterations"),
        ("before=8", "injectors.first and steps.generator_step.injectors.then do not write in all these iterations"),
    ],
)
def test_turns_that_overlap_or_leave_a_gap_are_refused(tmp_path: Path, change: str, message: str) -> None:
    faults = refused(tmp_path, TURNS, f"steps.generator_step.injectors.then.{change}")
    assert any(message in fault for fault in faults)


def test_a_key_that_was_read_is_not_written_again(tmp_path: Path) -> None:
    between = "          seen: {type: direct, in: target, out: seen, before: 1}\n"
    text = TURNS.replace("          then:", f"{between}          then:")
    assert "writes 'target', already written by" in refused(tmp_path, text)[0]
