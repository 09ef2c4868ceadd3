"""What preflight says of the gradients that processes average."""

import torch

from looking import looked
from making import GAN, trainer_of

OPTIONS = (
    GAN
    + """
    datasets:
      train: {mode: test_samples, kind: gan, batch_size: 4}
"""
)
PENALTY = """
      penalty_step:
        training: discriminator
        optimizer_of: discriminator_step
        every: 4
        losses:
          again: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
    train:"""


def test_each_step_averages_the_gradients_of_what_it_trains() -> None:
    report = looked(OPTIONS)
    trainer = trainer_of(GAN)
    sizes = {
        name: sum(4 * parameter.numel() for parameter in network.parameters())
        for name, network in trainer.networks.items()
    }
    assert {one.step: one.bytes for one in report.traffic} == {
        "discriminator_step": sizes["discriminator"], "generator_step": sizes["generator"],
    }  # fmt: skip


def test_what_an_update_averages_is_what_was_foreseen() -> None:
    foreseen = {one.step: one.bytes for one in looked(OPTIONS).traffic}
    trainer = trainer_of(GAN)
    trainer.world.processes = 2
    seen: list[int] = []
    trainer.world.add = lambda flat: seen.append(flat.numel() * flat.element_size())  # type: ignore[method-assign]
    trainer.train_step({"hq": torch.randn(4, 2), "z": torch.randn(4, 4)})
    trained = [[*trainer.networks[name].parameters()] for name in ("discriminator", "generator")]
    beside = [4 * (len(parameters) + 2) for parameters in trained]  # the loss, the samples, which gradients there are
    assert [one - more for one, more in zip(seen, beside, strict=True)] == list(foreseen.values())


def test_a_step_that_is_often_off_counts_by_its_share() -> None:
    report = looked(OPTIONS.replace("    train:", PENALTY, 1))
    assert report.traffic[2].every == 4
    assert "to average over processes: 781 bytes an iteration (" in "\n".join(report.lines())
    assert "penalty_step 260 bytes every 4 iterations)" in "\n".join(report.lines())
