"""What stays alive in an iteration, and what does not."""

import gc
import tracemalloc
import weakref
from typing import Any

import torch
from torch import Tensor

import gradloom
from gradloom.parts import Injector, Loss, Read, Write
from making import GAN, gan_batch, trainer_of

WATCHED: list[tuple[str, Any]] = []
ALIVE: list[str] = []


class Watch(Injector, type="test_watch"):
    """Copies a key and remembers a weak reference to the copy."""

    in_: Read
    out: Write

    def forward(self, in_: Tensor) -> Tensor:
        value = in_ * 1
        WATCHED.append((self.out, weakref.ref(value)))
        return value


class Look(Loss, type="test_look"):
    """Notes which watched values are alive, and whether its own carries a graph."""

    key: Read

    def forward(self, key: Tensor) -> Tensor:
        ALIVE.extend(name for name, reference in WATCHED if reference() is not None)
        ALIVE.append(f"{self.key} has a graph" if key.requires_grad else f"{self.key} has none")
        return key.mean()


def _watching() -> gradloom.Trainer:
    text = GAN.replace(
        "      generator_step:",
        "      watch_step:\n"
        "        training: generator\n"
        "        optimizer_of: generator_step\n"
        "        injectors:\n"
        "          drawn: {type: generator, generator: generator, in: z, out: first}\n"
        "          kept: {type: test_watch, in: first, out: kept}\n"
        "          dropped: {type: test_watch, in: first, out: dropped}\n"
        "        losses:\n"
        "          one: {type: test_look, key: dropped}\n"
        "          two: {type: test_look, key: kept}\n"
        "      generator_step:",
    ).replace(
        "losses:\n          pix",
        "losses:\n          look: {type: pix, criterion: l1, real: kept, fake: drawn}\n          pix",
    )
    WATCHED.clear()
    ALIVE.clear()
    return trainer_of(text)


def test_what_nobody_reads_any_more_dies_within_the_step() -> None:
    trainer = _watching()
    trainer.train_step(gan_batch())
    assert ALIVE == ["kept", "dropped", "dropped has a graph", "kept", "kept has a graph"]


def test_outputs_are_detached_for_the_next_step_and_gone_after_the_iteration() -> None:
    trainer = _watching()
    trainer.train_step(gan_batch(), keep=["kept"])
    (micro,) = trainer.states
    assert set(micro.state) == {"kept"}
    assert not micro.state["kept"].requires_grad
    trainer.train_step(gan_batch())
    gc.collect()
    assert not trainer.states[0].state
    assert [name for name, reference in WATCHED if reference() is not None] == []


def test_memory_does_not_grow() -> None:
    trainer = trainer_of(GAN, "train.mega_batch_factor=2")
    for _ in range(20):
        trainer.train_step(gan_batch())
    gc.collect()
    tensors = _tensors_alive()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        trainer.train_step(gan_batch())
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert _tensors_alive() <= tensors
    assert grown < 20_000  # bytes; one kept number an iteration would be more


def _tensors_alive() -> int:
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def test_metrics_are_detached() -> None:
    metrics = trainer_of(GAN).train_step(gan_batch())
    assert all(not value.requires_grad and value.dim() == 0 for value in metrics.values())
    assert torch.allclose(
        metrics["generator_step/total"], 0.1 * metrics["generator_step/pix"] + metrics["generator_step/gan"]
    )
