"""Averages follow their networks: parameters, buffers, and tensors that take another's place."""

import torch
from torch import Tensor, nn

from gradloom.config.schedules import EmaWarmup, Linear
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


def test_with_a_warmup_of_power_1_it_is_the_plain_mean_until_the_bound() -> None:
    network = Remembers()
    average = Average(network, EmaWarmup(to=0.75))
    seen = []
    for iteration in range(4):
        network.learn()
        average.advance(iteration, lambda: 1)
        average.update()
        seen.append(network.linear.weight.detach().clone())
        torch.testing.assert_close(average.network.linear.weight, torch.stack(seen).mean(0))
    network.learn()
    average.advance(4, lambda: 1)
    average.update()
    expected = 0.75 * torch.stack(seen).mean(0) + 0.25 * network.linear.weight.detach()
    torch.testing.assert_close(average.network.linear.weight, expected)


def test_a_rate_may_go_by_epochs() -> None:
    average = Average(Remembers(), Linear(from_=0, to=0.5, end=2, unit="epoch"))
    average.advance(5, lambda: 5)
    assert average.rate == 0.25


def test_a_trainer_gives_the_rate_its_value_of_each_iteration() -> None:
    trainer = trainer_of(GAN.replace("ema_rate: 0.9", "ema_rate: {ema_warmup: {to: 0.9}}"))
    generator, seen = trainer.networks["generator"], []
    for _ in range(3):
        trainer.train_step({"z": torch.randn(4, 4), "hq": torch.randn(4, 2)})
        seen.append(generator[0].weight.detach().clone())
    torch.testing.assert_close(trainer.emas["generator"][0].weight, torch.stack(seen).mean(0))


def test_an_average_follows_its_own_network_once_for_each_update() -> None:
    trainer = trainer_of(GAN)  # of two steps, with the rate 0.9
    before = {name: weights(network) for name, network in trainer.networks.items()}
    trainer.train_step(gan_batch())
    for name, average in trainer.emas.items():
        for key, value in weights(trainer.networks[name]).items():
            torch.testing.assert_close(average.state_dict()[key], 0.9 * before[name][key] + 0.1 * value)
