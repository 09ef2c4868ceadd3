"""What the interpreter does for each part, counted in calls of functions: in proportion to their number."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch

import gradloom
from gradloom.plan.compile import compile
from gradloom.plan.plan import Plan
from making import plan_of

HEAD = """
name: parts
networks:
  net: {which_model: test_mlp, inputs: 1, outputs: 1}
steps:
"""
STEP = """
  NAME:
    training: net
    optimizer_params: {lr: 1e-3}
    injectors:
INJECTORS
      made: {type: generator, generator: net, in: LAST, out: made_NAME}
    losses:
LOSSES
"""
LOSS = "{type: pix, criterion: l1, real: hq, fake: made_NAME}"


def step(name: str, injectors: list[str], losses: list[str], last: str) -> str:
    lines = ("".join(f"      {one}\n" for one in ones) for ones in (injectors, losses))
    written = STEP.replace("INJECTORS\n", next(lines)).replace("LOSSES\n", next(lines))
    return written.replace("NAME", name).replace("LAST", last)


def chain(count: int) -> str:
    """Parts that each pass on what the one before wrote."""
    links = [f"p{n}: {{type: direct, in: {f'k{n - 1}' if n else 'hq'}, out: k{n}}}" for n in range(count)]
    return HEAD + step("step", links, [f"pix: {LOSS}"], f"k{count - 1}")


def losses(count: int) -> str:
    """Losses on the end of a chain, each with a gate of its own."""
    links = [f"p{n}: {{type: direct, in: {f'k{n - 1}' if n else 'hq'}, out: k{n}}}" for n in range(count)]
    several = [f"l{n}: {LOSS.replace('}', ', weight: 0.1}')}" for n in range(count)]
    return HEAD + step("step", links, several, f"k{count - 1}")


def steps(count: int) -> str:
    """Steps that each read what the one before made."""
    return HEAD + "".join(step(f"s{n}", [], [f"pix: {LOSS}"], f"made_s{n - 1}" if n else "hq") for n in range(count))


def counted(work: Callable[[], Any]) -> int:
    """How many functions are called, those of Python and those of libraries."""
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def compiled(text: str) -> int:
    """Calls that compiling takes, and working out what an iteration runs, once the text is read."""
    documents = [plan_of(text + "train: {niter: 10}\n").document for _ in range(2)]
    compile(documents[0])  # so that what is made once is made
    return counted(lambda: compile(documents[1]).program(0))


@pytest.mark.parametrize("kind", [chain, losses, steps])
def test_compiling_takes_calls_in_proportion_to_the_parts(kind: Callable[[int], str]) -> None:
    few, many, most = (compiled(kind(count)) for count in (10, 100, 300))
    assert most - few <= 1.05 * (many - few) / 90 * 290


def test_an_iteration_takes_calls_in_proportion_to_the_parts() -> None:
    taken = []
    for count in (10, 100, 1000):
        plan: Plan = plan_of(chain(count) + "train: {niter: 10}\n")
        trainer = gradloom.ExtensibleTrainer(plan, device="cpu")
        batch = {"hq": torch.ones(1, 1)}
        trainer.train_step(batch)
        taken.append(counted(lambda trainer=trainer, batch=batch: trainer.train_step(batch)))
    few, many, most = taken
    assert most - few <= 1.01 * (many - few) * 11
    assert (most - few) / 990 <= 20  # for each part
