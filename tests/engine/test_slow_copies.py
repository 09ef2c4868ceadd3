"""The slow copy of BYOL while it trains: it moves once an iteration, and nothing else moves it."""

import copy

import pytest
import torch

from making import trainer_of

BYOL = """
    name: byol
    networks:
      net:
        which_model: byol
        subnet: {which_model: small_classifier, image_size: 16, width: 4}
        image_size: 16
        hidden_layer: body
        aug_enable: false
        projection_size: 4
        projection_hidden_size: 8
        moving_average_decay: 0.8
    steps:
      learn:
        training: net
        optimizer: adam
        optimizer_params: {lr: 1e-2}
        injectors: {compared: {type: generator, generator: net, in: [one, two], out: loss}}
        losses: {byol: {type: direct, key: loss}}
    train: {niter: 100, ema_rate: 0.9}
"""


def batch(seed=0, size=8):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(size, 3, 16, 16, generator=generator) for name in ("one", "two")}


def copies(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_it_follows_before_each_iteration(micro_batches):
    trainer = trainer_of(BYOL, f"train.mega_batch_factor={micro_batches}")
    network = trainer.networks["net"]
    expected = copies(network.target_encoder)
    for iteration in range(4):
        online = copies(network.online_encoder)
        expected = [0.8 * ours + 0.2 * theirs for ours, theirs in zip(expected, online, strict=True)]
        trainer.train_step(batch(iteration))
        torch.testing.assert_close(copies(network.target_encoder), expected)
        assert not all(torch.equal(a, b) for a, b in zip(online, copies(network.online_encoder), strict=True))


def test_no_optimizer_has_it():
    trainer = trainer_of(BYOL)
    network = trainer.networks["net"]
    held = {id(p) for group in trainer.optimizers["learn"].param_groups for p in group["params"]}
    assert not held & {id(p) for p in network.target_encoder.parameters()}
    assert held == {id(p) for p in network.parameters() if p.requires_grad}
    trainer.train_step(batch())
    assert not any(p.requires_grad for p in network.target_encoder.parameters())


def test_in_an_average_it_is_the_copy_of_the_averaged_encoder():
    trainer = trainer_of(BYOL)
    average = trainer.emas["net"]
    expected = copies(average.target_encoder)
    for iteration in range(5):
        online = copies(average.online_encoder)
        expected = [0.8 * ours + 0.2 * theirs for ours, theirs in zip(expected, online, strict=True)]
        trainer.train_step(batch(iteration))
        torch.testing.assert_close(copies(average.target_encoder), expected)


def test_where_an_update_is_skipped_it_moves_towards_what_stayed():
    trainer = trainer_of(BYOL)
    network = trainer.networks["net"]
    trainer.train_step(batch())
    online, target = copies(network.online_encoder), copies(network.target_encoder)
    bad = batch(1)
    bad["one"][0] = torch.nan
    trainer.train_step(bad)
    assert all(torch.equal(a, b) for a, b in zip(online, copies(network.online_encoder), strict=True))
    expected = [0.8 * ours + 0.2 * theirs for ours, theirs in zip(target, online, strict=True)]
    torch.testing.assert_close(copies(network.target_encoder), expected)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert trainer.train_step(batch(2))["learn/byol"].isfinite()


def test_a_resumed_run_goes_on_to_the_bit(tmp_path):
    straight, first, again = (trainer_of(BYOL) for _ in range(3))
    for iteration in range(4):
        straight.train_step(batch(iteration))
    for iteration in range(2):
        first.train_step(batch(iteration))
    again.resume(first.save(tmp_path))
    for iteration in (2, 3):
        again.train_step(batch(iteration))
    ours, theirs = (copy.deepcopy(trainer.networks["net"].state_dict()) for trainer in (straight, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_thread_that_copies_the_weights_is_done_before_it_follows():
    trainer = trainer_of(BYOL)
    trainer.train_step(batch(0))
    before, seen = copies(trainer.networks["net"]), []

    class Reading:
        def wait(self):
            seen.append(copies(trainer.networks["net"]))

    trainer.read = Reading()
    trainer.train_step(batch(1))
    assert len(seen) == 1
    assert all(torch.equal(a, b) for a, b in zip(seen[0], before, strict=True))
