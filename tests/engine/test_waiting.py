"""An iteration on a GPU never waits: no number is read back to the host, and no shape depends on one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gradloom.engine.data.ahead import sent_ahead
from gradloom.engine.data.feed import Fetched
from gradloom.engine.data.order import Position
from making import GAN, gan_batch, trainer_of

OPERATIONS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten.is_nonzero")
METHODS = ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__float__", "__int__", "__index__")


class Operations(TorchDispatchMode):
    """Notes the operations for which the host waits on a GPU."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith(OPERATIONS):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    """Notes the methods of tensors that do, some of which are no operation."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in METHODS:
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def waits() -> Iterator[list[str]]:
    """What the host waits for within."""
    seen: list[str] = []
    with Operations(seen), Methods(seen):
        yield seen


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["train.mega_batch_factor=2"],
        ["steps.discriminator_step.clip_grad_norm=1.0"],
        ["steps.discriminator_step.losses.gan.gradient_penalty=true"],
    ],
)
def test_an_iteration_reads_no_number_back(changes: list[str]) -> None:
    steps = ("generator_step", "discriminator_step")
    fused = [f"steps.{step}.optimizer_params.fused=true" for step in steps]  # as on a GPU
    trainer = trainer_of(GAN, *fused, *changes)
    trainer.soundness.on_device = True  # the device decides, as on a GPU
    trainer.train_step(gan_batch())
    with waits() as seen:
        for number in range(3):
            trainer.train_step(gan_batch(seed=number))
    assert not seen
    with waits() as seen:
        trainer.soundness.verdicts()
    assert seen, "reading back is seen where it is meant"


def test_on_a_cpu_batches_pass_as_they_are() -> None:
    fetched = [Fetched(gan_batch(seed=number), Position(0, number), [], ()) for number in range(3)]
    assert list(sent_ahead(fetched, torch.device("cpu"))) == fetched


@pytest.mark.gpu
def test_on_a_gpu_no_call_waits() -> None:
    trainer = trainer_of(GAN, "speed=safe", device="cuda")
    fetched = [Fetched({key: value.pin_memory() for key, value in gan_batch(seed=number).items()},
                       Position(0, number), [], ()) for number in range(20)]  # fmt: skip
    trainer.train_step(fetched[0].batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for one in sent_ahead(fetched, torch.device("cuda")):
            trainer.train_step(one.batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, value in fetched[3].batch.items():
        assert torch.equal(value, next(iter(sent_ahead(fetched[3:], torch.device("cuda")))).batch[name].cpu())
