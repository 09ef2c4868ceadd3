"""The contract that an extension fulfils: Injector, Loss and Evaluator.

A part's annotated attributes are its options. Those annotated `Read`, `Write` or `Net` are its ports: the options
hold names of state keys and networks, and `forward` receives their values under the names of the ports. A part
never sees the state, so what it declares is all that it can touch.

    class Blend(Injector, type="blend"):
        \"\"\"Mixes two keys.\"\"\"

        first: Read
        second: Read
        out: Write
        amount: Scheduled = 0.5

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first.lerp(second, self.amount)
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor

from gradloom.choices import Choice, DatasetChoice, NetworkChoice, Shown, datasets, hooks, keys_of, networks, optimizers
from gradloom.company import Adopts, Company, InCompany
from gradloom.config.annotations import Wants
from gradloom.inner import Inner
from gradloom.part import Need, Part, port_of
from gradloom.ports import TRAINED, Arguments, Net, Port, Read, Scheduled, Write, keys_in
from gradloom.registry import Registry

__all__ = [
    "TRAINED", "Adopts", "Arguments", "Choice", "Company", "DatasetChoice", "Evaluator", "InCompany", "Injector",
    "Inner", "Loss", "Metrics", "Need", "Net", "NetworkChoice", "Part", "Port", "Read", "Scalar", "Scheduled", "Shown",
    "Write", "datasets", "hooks", "keys_in", "keys_of", "networks", "optimizers", "port_of", "widen",
]  # fmt: skip


class Injector(Part):
    """Adds to the state: `forward` returns the value of its Write port, or a tuple of theirs in order."""

    registry = Registry["Injector"]("injector", "gradloom.injectors")
    in_words = "an injector, by its type and options"

    grad: bool = True  # False: runs without gradients
    no_grad: bool = False  # the same, said the other way round
    train_: bool = False  # only while training
    eval_: bool = False  # only while evaluating
    no_accum: bool = False  # runs on the first micro-batch only; the others have its values, cut from their graph


class Loss(Part):
    """Scores the state: `forward` returns a scalar, or a scalar and a mapping of detached metrics.

    The scalar is added to the step's others by weight before the one backward pass. A loss with Write ports returns
    what it writes, in order, after the metrics; that is for looking at and for later steps, and detached too.
    """

    registry = Registry["Loss"]("loss", "gradloom.losses")
    in_words = "a loss, by its type and options"

    weight: Scheduled = 1.0


class Evaluator(Part):
    """Measures networks: `forward` looks at a batch, `add` takes in what it found, `compute` says what all amounts to.

    With several processes, `forward` is given a share of the batches of the validation set, and in one process `add`
    gets what all of them found, in the order of the batches. That is tensors, numbers, words, None, or tuples, lists
    and dicts of these; `forward` keeps nothing that `compute` needs. An evaluator without `add` takes batches in by
    `forward` itself; then every process shows it every batch.
    """

    registry = Registry["Evaluator"]("evaluator", "gradloom.evaluators")
    in_words = "an evaluator, by its type and options"

    for_: Annotated[str, Wants("the name of a network")] | None = (
        None  # such as `generator.ema`: stands in for `generator` while measuring
    )
    samples: Annotated[int, Gt(0)] | None = (
        None  # how many to measure, going round if need be; None is the whole set once
    )

    def looks_at(self) -> "Shown | None":
        """What to be shown instead of the validation set, if anything; it depends on the options alone."""
        return None

    @property
    def adds(self) -> bool:
        """Whether batches may be shared among processes."""
        return type(self).add is not Evaluator.add

    def reset(self) -> None:
        """Forget the batches taken in."""

    def add(self, found: Any) -> None:
        """Take in what `forward` found in a batch."""

    def compute(self) -> Mapping[str, float]:
        """Name and value of every metric."""
        raise NotImplementedError

    to_write = {**Part.to_write, "compute": compute}

    def images(self) -> Mapping[str, Tensor]:
        """Images to show, by name: (count, channels, height, width) in the range of `logger.visuals`."""
        return {}

    def protocol(self) -> str:
        """How the numbers came about, in a few words, for whoever compares them with others'."""
        return ""


Scalar = Tensor
"""A tensor without dimensions, of the computation's dtype."""

Metrics = dict[str, Tensor]
"""Detached scalars, by name, that a loss reports beside its value."""


def widen(value: Tensor) -> Tensor:
    """Bring half precision to float32, in which losses are computed; leave anything wider as it is."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
