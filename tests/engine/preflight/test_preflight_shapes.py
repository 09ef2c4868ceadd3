"""Mistakes of shape, dtype and value that are found before anything is trained, each at its place."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradloom
from gradloom.engine.preflight.look import look_ahead
from looking import lines, looked, only
from making import GAN, plan_of

DATA = "datasets: {train: {mode: test_samples, kind: gan, batch_size: 8}}"
SOUND = GAN + "    " + DATA + "\n"


def swapped(old: str, new: str, text: str = SOUND) -> str:
    assert text.count(old) == 1, text.count(old)
    return text.replace(old, new)


def test_a_sound_plan_has_neither_faults_nor_notices() -> None:
    report = looked(SOUND)
    assert lines(report.faults) == lines(report.notices) == []
    assert [(row.name, row.parameters, row.trained) for row in report.networks] == [
        ("generator", 4 * 16 + 16 + 16 * 2 + 2, 114),
        ("discriminator", 2 * 16 + 16 + 16 + 1, 65),
    ]


PIX = "pix: {type: pix, criterion: l2, real: hq, fake: drawn, weight: 0.1}"
DRAWN = "drawn: {type: generator, generator: generator, in: z, out: drawn}"
G = "generator: {which_model: test_mlp, inputs: 4, outputs: 2}"
D = "discriminator: {which_model: test_mlp, inputs: 2, outputs: 1}"


def test_losses_of_what_has_another_shape() -> None:
    text = swapped(PIX, PIX.replace("real: hq", "real: z"))
    report = looked(text)
    assert only(report.faults) == (
        "steps.generator_step.losses.pix: pix: 'drawn' and 'z' must have the same shape, they have (8, 2) and (8, 4); "
        "it got real (8, 4), fake (8, 2)"
    )
    assert "pix:" in text.splitlines()[report.faults[0].mark.line - 1]


def test_a_layer_that_takes_another_width() -> None:
    report = looked(swapped(G, G.replace("inputs: 4", "inputs: 5")))
    assert lines(report.faults) == [
        f"steps.{step}.injectors.{name}: a matrix of (8, 4) cannot be multiplied by one of (5, 16): "
        "4 columns meet 5 rows, in generator.0, Linear(in_features=5, out_features=16, bias=True), which got (8, 4); "
        "it got in (8, 4)"
        for step, name in (("discriminator_step", "fake"), ("generator_step", "drawn"))
    ]


def test_a_discriminator_that_takes_another_width_is_found_where_it_is_called() -> None:
    report = looked(swapped(D, D.replace("inputs: 2", "inputs: 3")))
    assert [fault.path for fault in report.faults] == [
        "steps.discriminator_step.losses.gan", "steps.generator_step.losses.gan",
    ]  # fmt: skip
    assert all("it got" in fault.message and "discriminator.0" in fault.message for fault in report.faults)


@pytest.mark.parametrize(("kind", "word"), [("bytes", "uint8 by float32")])
def test_whole_numbers_where_a_layer_takes_floats(kind: str, word: str) -> None:
    report = looked(swapped("kind: gan", f"kind: {kind}"))
    assert [fault.path for fault in report.faults] == [
        "steps.discriminator_step.injectors.fake", "steps.generator_step.injectors.drawn",
    ]  # fmt: skip
    assert word in report.faults[0].message and "it got in (8, 4) uint8" in report.faults[0].message


def test_doubles_where_a_layer_takes_floats() -> None:
    report = looked(swapped("kind: gan", "kind: double"))
    assert [fault.path for fault in report.faults] == ["steps.discriminator_step.losses.gan"]
    assert "a product of float64 by float32" in report.faults[0].message


def test_floats_of_several_widths_are_autocasts_business() -> None:
    assert lines(looked(swapped("kind: gan", "kind: double"), "precision=bf16").faults) == []


class Vector(gradloom.Loss, type="test_vector"):
    """One number a sample."""

    x: gradloom.Read

    def forward(self, x: Tensor) -> Tensor:
        return x.square().mean(1)


class Number(gradloom.Loss, type="test_number"):
    """No tensor."""

    x: gradloom.Read

    def forward(self, x: Tensor) -> Any:
        return 1.0


class Detached(gradloom.Loss, type="test_detached"):
    """Depends on nothing."""

    x: gradloom.Read

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().mean()


class Broadcasting(gradloom.Loss, type="test_broadcasting"):
    """Compares each number with all others."""

    x: gradloom.Read

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.mse_loss(x[:, :1], x[:, 1].detach())


class Alone(gradloom.Injector, type="test_alone"):
    """Returns one value for two keys."""

    x: gradloom.Read
    out: tuple[gradloom.Write, ...]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x,)


class Reserved(gradloom.Injector, type="test_uses_values"):
    """Cannot be run without values."""

    x: gradloom.Read
    out: gradloom.Write

    def forward(self, x: Tensor) -> Tensor:
        return x * x.abs().max().item()


class Complex(gradloom.Loss, type="test_complex"):
    """Has an imaginary part."""

    x: gradloom.Read

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x.flatten()).sum()


class Wrong(gradloom.Injector, type="test_raises"):
    """Calls what is not there."""

    x: gradloom.Read
    out: gradloom.Write

    def forward(self, x: Tensor) -> Tensor:
        return x.no_such_method()  # type: ignore[no-any-return, operator]


class Writing(gradloom.Injector, type="test_in_place"):
    """Changes what its backward pass needs."""

    x: gradloom.Read
    out: gradloom.Write

    def forward(self, x: Tensor) -> Tensor:
        y = x.exp()
        y.add_(1)
        return y


def test_a_loss_that_is_no_single_number() -> None:
    report = looked(swapped(PIX, "pix: {type: test_vector, x: drawn}"))
    assert only(report.faults) == ("steps.generator_step.losses.pix: a loss is a single number, got the shape (8,)")


def test_a_loss_that_is_no_real_number() -> None:
    report = looked(swapped(PIX, "pix: {type: test_complex, x: drawn}"))
    assert only(report.faults) == (
        "steps.generator_step.losses.pix: a loss is a real number, got a complex one; take its .real or .abs()"
    )


def test_a_loss_that_is_no_tensor() -> None:
    assert only(looked(swapped(PIX, "pix: {type: test_number, x: drawn}")).faults).startswith(
        "steps.generator_step.losses.pix: a loss is a single number in a tensor, got a float"
    )


GAN_LOSS = "gan: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: drawn}"


def test_a_total_that_depends_on_nothing() -> None:
    text = swapped(GAN_LOSS, "", swapped(PIX, "pix: {type: test_detached, x: drawn}"))
    assert only(looked(text).faults) == (
        "steps.generator_step: its losses do not depend on 'generator'; call it with gradients"
    )


@gradloom.networks.register("test_cut")
class Cut(nn.Module):
    """Cuts its own graph, though its input may need a gradient."""

    def __init__(self, keeps: bool = False) -> None:
        super().__init__()
        self.inner, self.outer, self.keeps = nn.Linear(4, 4), nn.Linear(4, 2), keeps

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(x)
        return self.outer(inner.detach()) if self.keeps else x[:, :2] + self.outer(inner).detach()


def test_a_gradient_that_does_not_reach_what_is_trained() -> None:
    text = swapped(
        G,
        "generator: {which_model: test_cut}",
        swapped(
            DRAWN,
            DRAWN
            + """
          learnt: {type: generator, generator: discriminator, in: drawn, out: learnt}""",
        ),
    )
    text = text.replace("training: generator", "training: [generator, discriminator]")
    text = swapped(PIX, PIX + "\n          more: {type: pix, criterion: l2, real: learnt, fake: learnt}", text)
    report = looked(text)
    assert lines(report.faults) == []
    assert "steps.generator_step: while others learn, the gradient of its losses does not reach 'generator'" in lines(
        report.notices
    )


def test_a_loss_that_broadcasts_is_a_notice() -> None:
    report = looked(swapped(PIX, "pix: {type: test_broadcasting, x: drawn}"))
    assert lines(report.faults) == []
    assert only(report.notices) == (
        "steps.generator_step.losses.pix: compares (8, 1) with (8), so each number of the one with several of the "
        "other; give them one shape if that is not meant"
    )


def test_an_injector_that_returns_too_little() -> None:
    report = looked(swapped(DRAWN, DRAWN + "\n          two: {type: test_alone, x: drawn, out: [a, b]}").replace(
        "fake: drawn, weight", "fake: a, weight"
    ))  # fmt: skip
    assert only(report.faults) == (
        "steps.generator_step.injectors.two: expected 2 values for a, b, got 1 values; it got x (8, 2)"
    )


def test_one_mistake_gives_one_message_and_what_follows_is_left_out() -> None:
    report = looked(swapped(DRAWN, DRAWN + "\n          odd: {type: test_raises, x: drawn, out: odd}").replace(
        "fake: drawn", "fake: odd"
    ))  # fmt: skip
    assert only(report.faults) == (
        "steps.generator_step.injectors.odd: AttributeError: 'Tensor' object has no attribute 'no_such_method', "
        "in test_preflight_shapes.py, line 159; it got x (8, 2)"
    )


def test_what_is_changed_in_place_though_the_backward_pass_needs_it() -> None:
    report = looked(swapped(DRAWN, DRAWN + "\n          odd: {type: test_in_place, x: drawn, out: odd}").replace(
        "fake: drawn", "fake: odd"
    ))  # fmt: skip
    assert only(report.faults).startswith(
        "steps.generator_step: its gradients cannot be taken: one of the variables needed for gradient computation has "
        "been modified by an inplace operation"
    )


def test_what_needs_values_is_a_notice_and_what_follows_is_unknown() -> None:
    report = looked(swapped(DRAWN, DRAWN + "\n          odd: {type: test_uses_values, x: drawn, out: odd}").replace(
        "fake: drawn", "fake: odd"
    ))  # fmt: skip
    assert lines(report.faults) == []
    assert only(report.notices) == (
        "steps.generator_step.injectors.odd: its shapes cannot be known before running: "
        "it looks at the values of tensors"
    )


def test_independent_mistakes_are_found_in_one_pass() -> None:
    text = swapped(PIX, PIX.replace("real: hq", "real: z"), swapped(D, D.replace("inputs: 2", "inputs: 3")))
    text = swapped("batch_size: 8", "batch_size: 101", text)
    paths = [fault.path for fault in looked(text, "path.pretrain_model_generator=/nowhere.pth").faults]
    assert sorted(paths) == sorted([
        "datasets.train.batch_size", "path.pretrain_model_generator", "steps.discriminator_step.losses.gan",
        "steps.generator_step.losses.gan", "steps.generator_step.losses.pix",
    ])  # fmt: skip


def test_what_takes_part_late_is_looked_at_too_and_said_once() -> None:
    text = swapped(PIX, PIX.replace("real: hq", "real: z").replace("}", ", after: 30, every: 7, before: 90}"))
    assert only(looked(text).faults).startswith("steps.generator_step.losses.pix: pix: 'drawn' and 'z'")
    text = swapped(PIX, PIX.replace("real: hq", "real: z").replace("}", ", after: 200}"))
    assert lines(looked(text).faults) == []  # the run ends before


def test_the_smallest_micro_batch_is_looked_at() -> None:
    @gradloom.networks.register("test_normed")
    class Normed(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 2), nn.BatchNorm1d(2))

    text = swapped(G, "generator: {which_model: test_normed}", swapped("batch_size: 8", "batch_size: 5"))
    assert lines(looked(text, "train.mega_batch_factor=2").faults) == []
    report = looked(text, "train.mega_batch_factor=4")  # of 2, 1, 1 and 1
    assert "Expected more than 1 value per channel when training, got input size (1, 2)" in report.faults[0].message


def test_nothing_is_made_and_nothing_changes() -> None:
    """The network would take four terabytes."""

    @gradloom.networks.register("test_vast")
    class Vast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Linear(4, 10**9), nn.Linear(10**9, 2)
            self.table = nn.Parameter(torch.empty(10**6, 10**6))
            nn.init.normal_(self.table)

        def forward(self, x: Tensor) -> Tensor:
            return self.narrow(self.wide(x)) + self.table.mean()

    plan = plan_of(swapped(G, "generator: {which_model: test_vast, ema: false}"), "train.niter=1")
    parts = [call.part for step in plan.steps for call in (*step.injectors, *step.losses)]
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[union-attr]
    options = [{**part.__dict__} for part in parts]
    report = look_ahead(plan, torch.device("cpu"))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [part.__dict__ for part in parts] == options
    assert report.networks[0].bytes > 4e12
    assert [fault.path for fault in report.faults] == [""]  # no disk holds its checkpoint
    assert "a checkpoint takes 12.1 TB" in report.faults[0].message


class Extension(gradloom.Injector, type="test_extension"):
    """Complains as an extension for GPUs does."""

    x: gradloom.Read
    out: gradloom.Write
    text: str

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(self.text)


@pytest.mark.parametrize(
    "text",
    [
        "input must be a CUDA tensor",
        "Expected all tensors to be on the same device",
        "view size is not compatible with input tensor's size and stride",
    ],
)
def test_what_may_be_due_to_the_device_is_a_notice(text: str) -> None:
    more = f'{DRAWN}\n          odd: {{type: test_extension, x: drawn, out: odd, text: "{text}"}}'
    report = looked(swapped(DRAWN, more).replace("fake: drawn", "fake: odd"))
    assert lines(report.faults) == []
    assert only(report.notices).endswith(f"its shapes cannot be known before running: {text}")


def test_what_may_be_due_to_autocast_is_a_notice_where_there_is_any() -> None:
    more = f"{DRAWN}\n          odd: {{type: test_extension, x: drawn, out: odd, text: only fp16 and bf16}}"
    text = swapped(DRAWN, more).replace("fake: drawn", "fake: odd")
    line = "in test_preflight_shapes.py, line 349"
    assert only(looked(text).faults).endswith(f"odd: only fp16 and bf16, {line}; it got x (8, 2)")
    report = looked(text, "precision=bf16")
    assert lines(report.faults) == []
    assert "only fp16 and bf16" in only(report.notices)
    report = looked(swapped("kind: gan", "kind: bytes"), "precision=bf16")
    assert "a product of uint8 by float32" in report.faults[0].message


def test_a_run_that_goes_on_is_looked_at_from_there() -> None:
    plan = plan_of(swapped(PIX, PIX.replace("real: hq", "real: z").replace("}", ", before: 50}")))
    assert len(look_ahead(plan, torch.device("cpu")).faults) == 1
    assert look_ahead(plan, torch.device("cpu"), first=51).faults == []


def test_statistics_of_a_network_without_batch_norm_cannot_be_shared() -> None:
    shared = G.replace("inputs: 4", "sync_batchnorm: true, inputs: 4")
    assert only(looked(swapped(G, shared)).faults) == (
        "networks.generator.sync_batchnorm: the network has no batch norm; remove it"
    )


def test_of_several_processes_the_share_of_one_is_looked_at() -> None:
    """Also that of an incomplete batch, here of one sample each, which batch norm over both processes takes."""

    @gradloom.networks.register("test_normed_alone")
    class Normed(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 2), nn.BatchNorm1d(2))

    own = "generator: {which_model: test_normed_alone, sync_batchnorm: false}"
    uneven = swapped("batch_size: 8", "batch_size: 8, length: 18, drop_last: false", swapped(G, own))
    cpu = torch.device("cpu")
    (fault, *_) = look_ahead(plan_of(uneven), cpu, processes=2).faults
    assert "Expected more than 1 value per channel when training, got input size (1, 2)" in fault.message
    shared = swapped("sync_batchnorm: false", "sync_batchnorm: true", uneven)
    assert look_ahead(plan_of(shared), cpu, processes=2).faults == []
    assert look_ahead(plan_of(uneven), cpu).faults == []
    (fault,) = look_ahead(plan_of(uneven), cpu, processes=4).faults
    assert "the last batch of an epoch of 18 samples has 2, too few for 4 processes" in fault.message
