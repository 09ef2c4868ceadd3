"""What learns, and what does not."""

import pytest
import torch
from torch import Tensor, nn

import gradloom
from making import GAN, gan_batch, trainer_of, weights


def _gradients_of(text: str, *overrides: str) -> dict[str, Tensor]:
    """The first iteration's gradients, which SGD with a rate of 1 leaves in the weights."""
    trainer = trainer_of(
        text,
        "steps.generator_step.optimizer=sgd",
        "steps.generator_step.optimizer_params={lr: 1.0}",
        "steps.discriminator_step.optimizer=sgd",
        "steps.discriminator_step.optimizer_params={lr: 1.0}",
        *overrides,
    )
    before = {name: weights(network) for name, network in trainer.networks.items()}
    trainer.train_step(gan_batch())
    return {
        f"{name}.{key}": before[name][key] - value
        for name, network in trainer.networks.items()
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize(
    "loss", ["discriminator_step.losses.gan", "generator_step.losses.pix", "generator_step.losses.gan"]
)
def test_every_loss_moves_the_network_it_is_meant_for(loss: str) -> None:
    """Without a loss, the gradient of the step's network is another; a scale of the weight scales its part."""
    step = loss.split(".", 1)[0]
    network = step.removesuffix("_step")
    with_it = _gradients_of(GAN)
    double = _gradients_of(GAN, f"steps.{loss}.weight={0.2 if loss.endswith('pix') else 2}")
    moved = [key for key in with_it if key.startswith(network) and not torch.equal(with_it[key], double[key])]
    assert len(moved) == 4
    assert all(torch.equal(with_it[key], double[key]) for key in with_it if not key.startswith((network, "generator")))


def test_trained_networks_move_and_frozen_ones_do_not() -> None:
    text = GAN.replace(
        "      discriminator: {which",
        "      frozen: {which_model: test_mlp, inputs: 2, outputs: 2, trainable: false}\n      discriminator: {which",
    )
    text = text.replace(
        "losses:\n          pix",
        "  seen: {type: generator, generator: frozen, in: drawn, out: seen}\n        losses:\n          seen: {type: pix, criterion: l1, real: hq, fake: seen}\n          pix",
    )
    trainer = trainer_of(text)
    before = {name: weights(network) for name, network in trainer.networks.items()}
    for _ in range(3):
        trainer.train_step(gan_batch())
    after = {name: weights(network) for name, network in trainer.networks.items()}
    assert all(torch.equal(before["frozen"][key], after["frozen"][key]) for key in before["frozen"])
    for name in ("generator", "discriminator"):
        assert all(not torch.equal(before[name][key], after[name][key]) for key in before[name])
    assert not trainer.networks["frozen"].training
    assert "frozen" not in trainer.emas


@gradloom.networks.register("test_half_frozen")
class HalfFrozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Linear(4, 4).requires_grad_(False)
        self.free = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.free(self.fixed(x))


def test_a_layer_that_a_network_froze_stays_frozen() -> None:
    trainer = trainer_of(GAN, "networks.generator={which_model: test_half_frozen}")
    before = weights(trainer.networks["generator"])
    for _ in range(3):
        trainer.train_step(gan_batch())
    after = trainer.networks["generator"].state_dict()
    assert torch.equal(before["fixed.weight"], after["fixed.weight"])
    assert not torch.equal(before["free.weight"], after["free.weight"])
    assert not any(parameter.requires_grad for parameter in trainer.networks["generator"].fixed.parameters())


def test_a_step_that_is_off_supplies_the_next_without_training() -> None:
    """The generator's step reads what the discriminator's writes, which trains only every third iteration."""
    text = GAN.replace("in: z, out: drawn}", "in: fake, out: drawn}").replace(
        "inputs: 4, outputs: 2", "inputs: 2, outputs: 2"
    )
    text = text.replace("training: discriminator\n", "training: discriminator\n        every: 3\n")
    trainer = trainer_of(text)
    moved = []
    for _ in range(6):
        before = weights(trainer.networks["discriminator"])
        generator = weights(trainer.networks["generator"])
        metrics = trainer.train_step({"hq": gan_batch()["hq"], "z": torch.randn(8, 2)})
        moved.append(not torch.equal(before["0.weight"], trainer.networks["discriminator"].state_dict()["0.weight"]))
        assert not torch.equal(generator["0.weight"], trainer.networks["generator"].state_dict()["0.weight"])
        assert ("discriminator_step/gan" in metrics) == moved[-1]
    assert moved == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("gate", "open_at"),
    [
        ("after: 2", {2, 3, 4, 5}),
        ("before: 1", {0, 1}),
        ("every: 2", {0, 2, 4}),
        ("after: 1, before: 3, every: 3", {3}),
    ],
)
def test_a_loss_takes_part_when_its_gate_is_open(gate: str, open_at: set[int]) -> None:
    trainer = trainer_of(GAN.replace("weight: 0.1}", f"weight: 0.1, {gate}}}"))
    seen = {iteration for iteration in range(6) if "generator_step/pix" in trainer.train_step(gan_batch())}
    assert seen == open_at


def test_a_network_that_may_not_be_trained_yet_waits() -> None:
    trainer = trainer_of(GAN, "networks.discriminator.after=2")
    before = weights(trainer.networks["discriminator"])
    for iteration in range(4):
        trainer.train_step(gan_batch())
        same = torch.equal(before["0.weight"], trainer.networks["discriminator"].state_dict()["0.weight"])
        assert same == (iteration < 2)


def test_an_inactive_loss_is_not_computed() -> None:
    """A loss that would fail does no harm while it is off."""

    class Fails(gradloom.Loss, type="test_fails"):
        """Cannot be computed."""

        key: gradloom.Read

        def forward(self, key: Tensor) -> Tensor:
            raise ArithmeticError("computed")

    trainer = trainer_of(
        GAN.replace("type: pix, criterion: l2, real: hq, fake: drawn", "type: test_fails, key: drawn, after: 2")
    )
    trainer.train_step(gan_batch())
    trainer.train_step(gan_batch())
    with pytest.raises(ArithmeticError):
        trainer.train_step(gan_batch())


def test_a_step_may_use_another_steps_optimizer() -> None:
    lazy = """
      lazy_step:
        training: discriminator
        every: 2
        optimizer_of: discriminator_step
        injectors:
          scores: {type: discriminator, discriminator: discriminator, in: hq, out: scores}
        losses:
          small: {type: direct, key: scores}
    """
    trainer = trainer_of(GAN.replace("    train: {niter", "      " + lazy.strip() + "\n    train: {niter"))
    assert set(trainer.optimizers) == {"discriminator_step", "generator_step"}
    for iteration in range(4):
        metrics = trainer.train_step(gan_batch())
        assert ("lazy_step/small" in metrics) == (iteration % 2 == 0)
    steps = next(iter(trainer.optimizers["discriminator_step"].state.values()))["step"]
    assert int(steps) == 6


def test_a_loss_that_is_no_single_number_is_named() -> None:
    class Shaped(gradloom.Loss, type="test_shaped"):
        """Forgets to average."""

        key: gradloom.Read

        def forward(self, key: Tensor) -> Tensor:
            return key

    trainer = trainer_of(
        GAN.replace("type: pix, criterion: l2, real: hq, fake: drawn", "type: test_shaped, key: drawn")
    )
    with pytest.raises(
        gradloom.RunError, match=r"generator_step\.losses\.pix: a loss is a single number, got the shape \(8, 2\)"
    ):
        trainer.train_step(gan_batch())


def test_a_batch_without_a_key_says_which() -> None:
    with pytest.raises(gradloom.RunError, match="the batch has no 'z'; it has 'hq'"):
        trainer_of(GAN).train_step({"hq": torch.zeros(2, 2)})


def test_an_error_within_a_part_names_the_part_and_what_it_was_given() -> None:
    with pytest.raises(RuntimeError) as raised:
        trainer_of(GAN).train_step({"hq": torch.zeros(8, 2), "z": torch.zeros(8, 5)})
    (note,) = raised.value.__notes__
    assert note.startswith("in steps.discriminator_step.injectors.fake (")
    assert note.endswith("options.yml:12:7), with generator: MLP, in_: (8, 5)")


def test_an_optional_port_that_says_none_is_empty() -> None:
    part = gradloom.Loss.registry.find("generator_gan")(gan_type="gan", discriminator="d", fake="f", real="None")
    assert part.real is None
    assert part.reads() == ("f",)
