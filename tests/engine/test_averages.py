"""Averages follow their networks: parameters, buffers, and tensors that take another's place."""

import torch
from torch import Tensor, nn

from gradloom.engine.averages import Average
from making import GAN, gan_batch, trainer_of, weights


class Remembers(nn.Module):
    """Puts a new tensor in its buffer's place, as a codebook does, and counts in whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.mean: Tensor
        self.count: Tensor

    def learn(self) -> None:
        with torch.no_grad():
            self.linear.weight += 1
        self.mean = self.mean + 1
        self.count += 1


def test_an_average_follows_by_the_formula() -> None:
    network = Remembers()
    average = Average(network, 0.75)
    weight, mean = network.linear.weight.detach().clone(), torch.zeros(2)
    for count in range(1, 4):
        network.learn()
        average.update()
        weight = 0.75 * weight + 0.25 * network.linear.weight.detach()
        mean = 0.75 * mean + 0.25 * count
        torch.testing.assert_close(average.network.linear.weight, weight)
        torch.testing.assert_close(average.network.mean, mean)
        assert int(average.network.count) == count
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_an_average_follows_a_network_that_changed_its_dtype() -> None:
    network = Remembers()
    average = Average(network, 0.5)
    network.double()
    average.network.double()
    before = network.linear.weight.detach().clone()
    network.learn()
    average.update()
    torch.testing.assert_close(average.network.linear.weight, before + 0.5)
    torch.testing.assert_close(average.network.mean, torch.full((2,), 0.5, dtype=torch.float64))


def test_an_average_follows_its_own_network_once_for_each_update() -> None:
    trainer = trainer_of(GAN)  # of two steps, with the rate 0.9
    before = {name: weights(network) for name, network in trainer.networks.items()}
    trainer.train_step(gan_batch())
    for name, average in trainer.emas.items():
        for key, value in weights(trainer.networks[name]).items():
            torch.testing.assert_close(average.state_dict()[key], 0.9 * before[name][key] + 0.1 * value)
