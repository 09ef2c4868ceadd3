"""Gradients of micro-batches add up to those of the batch."""

from collections.abc import Iterator

import pytest
import torch

from making import GAN, gan_batch, trainer_of


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("size", "count"), [(8, 2), (8, 8), (7, 3), (6, 4), (2, 5)])
def test_any_number_of_micro_batches_equals_one_batch(size: int, count: int) -> None:
    whole, parts = trainer_of(GAN), trainer_of(GAN, f"train.mega_batch_factor={count}")
    for seed in range(4):
        batch = {key: value.double() for key, value in gan_batch(size, seed).items()}
        expected, got = whole.train_step(batch), parts.train_step(batch)
        assert expected.keys() == got.keys()
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=1e-10, atol=1e-12)
    for name, network in whole.networks.items():
        for key, value in network.state_dict().items():
            torch.testing.assert_close(parts.networks[name].state_dict()[key], value, rtol=1e-9, atol=1e-11)


def test_lists_are_cut_with_the_tensors() -> None:
    trainer = trainer_of(GAN, "train.mega_batch_factor=2")
    batch = {**gan_batch(5), "path": list("abcde")}
    trainer.train_step(batch, keep=["path", "hq"])
    assert [micro.state["path"] for micro in trainer.states] == [["a", "b", "c"], ["d", "e"]]
    assert [micro.share for micro in trainer.states] == [0.6, 0.4]


def test_what_an_iteration_does_not_need_may_have_any_length() -> None:
    trainer = trainer_of(GAN, "train.mega_batch_factor=2")
    batch = {key: value.double() for key, value in gan_batch(4).items()}
    trainer.train_step({"palette": torch.zeros(3), **batch})
