"""The order of samples, and what is random about them, follow from the seed alone."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import gradloom
from gradloom.engine.data import Order, Seeded, mix, training_batches
from making import plan_of


class Drawn(Dataset[dict[str, Tensor]]):
    """Each sample is its index and a random number of each kind."""

    keys = ("hq",)

    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"hq": torch.tensor([index, torch.rand(()).item(), np.random.rand()])}


gradloom.datasets.register("test_drawn")(Drawn)

PLAN = """
    name: order
    datasets: {train: {mode: test_drawn, count: 10, batch_size: 3}}
    networks: {net: {which_model: test_mlp, inputs: 3, outputs: 1}}
    steps:
      step:
        training: net
        optimizer_params: {lr: 1e-3}
        injectors: {out: {type: generator, generator: net, in: hq, out: out}}
        losses: {small: {type: direct, key: out}}
    train: {niter: 9}
"""


def _batches(first: int, *overrides: str) -> list[Tensor]:
    batches, per_epoch = training_batches(plan_of(PLAN, *overrides), first, torch.device("cpu"))
    assert per_epoch == 3
    return [batch["hq"] for batch in batches]


def test_an_epoch_shows_each_sample_once_and_no_two_are_alike() -> None:
    epochs = [torch.cat(_batches(0)[start : start + 3])[:, 0].tolist() for start in (0, 3, 6)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 2, 3, 8])
def test_going_on_gives_the_batches_that_would_have_come(workers: int, first: int) -> None:
    straight = _batches(0)
    later = _batches(first, f"datasets.train.n_workers={workers}")
    assert len(later) == 9 - first
    assert all(torch.equal(one, other) for one, other in zip(later, straight[first:], strict=True))


def test_another_seed_gives_another_order() -> None:
    assert not torch.equal(torch.cat(_batches(0)), torch.cat(_batches(0, "train.manual_seed=1")))


def test_samples_leave_the_runs_random_numbers_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(()).item(), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    _batches(0)
    assert (torch.rand(()).item(), np.random.rand()) == expected


def test_a_sample_is_drawn_anew_in_each_epoch() -> None:
    seeded = Seeded(Drawn(), seed=0)
    first, again, later = seeded[0, 4]["hq"], seeded[0, 4]["hq"], seeded[1, 4]["hq"]
    assert torch.equal(first, again)
    assert first[1] != later[1]
    assert len({mix(0, epoch, index) for epoch in range(50) for index in range(50)}) == 2500


def test_the_order_is_not_read_ahead() -> None:
    assert list(Order(5, 2, seed=0, first=1, last=1)) == []
