"""How networks are laid out and run: what is measured, what is chosen, and that it is repeated."""

import json
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradloom
from gradloom.engine.speed import tuning
from gradloom.engine.speed.layout import put_channels_last
from gradloom.engine.speed.trial import Inputs, Trial
from making import GAN, IMAGE_GAN, gan_batch, trainer_of, weights

OPTIONS = f"name: quick\n{IMAGE_GAN}\ntrain: {{niter: 100}}\n"


@pytest.fixture(autouse=True)
def an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every network be worth measuring, and the generator alone gain; return what was measured."""
    asked: list[str] = []

    def share(self: Trial, change: Callable[[nn.Module], None], deadline: float) -> float:
        asked.append(type(self._network).__name__)
        change(self._copy())
        return 0.5 if "Generator" in asked[-1] else 1.0

    monkeypatch.setattr(Trial, "share", share)
    monkeypatch.setattr(tuning, "_WORTH_ELSEWHERE", 0.0)
    return asked


def batch(seed: int = 0) -> dict[str, Tensor]:
    return {"hq": torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))}


def run(trainer: gradloom.Trainer, count: int) -> None:
    for number in range(count):
        torch.manual_seed(number)
        trainer.train_step(batch(number))


def is_last(network: nn.Module) -> bool:
    return all(p.is_contiguous(memory_format=torch.channels_last) for p in network.parameters() if p.dim() == 4)


def test_what_is_quicker_is_chosen_after_the_first_iteration_and_remembered(timed: list[str]) -> None:
    trainer = trainer_of(OPTIONS)
    run(trainer, 1)
    assert sorted(timed) == ["DCGANDiscriminator", "DCGANGenerator"]
    assert is_last(trainer.networks["generator"]) and is_last(trainer.emas["generator"])
    assert not is_last(trainer.networks["discriminator"])
    generator, discriminator = sorted(trainer.news, reverse=True)
    assert "generator: channels_last (a pass takes" in generator and "channels_last 0.50 of that" in generator
    assert "discriminator: as it is (a pass takes" in discriminator and "channels_last 1.00 of that" in discriminator
    again = trainer_of(OPTIONS)
    run(again, 1)
    assert len(timed) == 2, "what is remembered is not measured"
    assert again.tuning.choices == trainer.tuning.choices
    run(trainer, 3)
    run(again, 3)
    for name, value in weights(trainer.networks["generator"]).items():
        assert torch.equal(value, again.networks["generator"].state_dict()[name])


def test_another_plan_is_measured_anew(timed: list[str]) -> None:
    run(trainer_of(OPTIONS), 1)
    run(trainer_of(OPTIONS, "networks.generator.nf=8"), 1)
    assert len(timed) == 4


def test_measuring_leaves_no_trace() -> None:
    """Networks too small to gain are timed once and left; buffers and random numbers are as without."""
    measured, safe = trainer_of(OPTIONS), trainer_of(OPTIONS, "speed=safe")
    run(measured, 3)
    run(safe, 3)
    assert [choice.channels_last for choice in measured.tuning.choices.values()] == [False, False]
    assert not safe.tuning.choices
    for name, network in measured.networks.items():
        for key, value in weights(network).items():
            assert torch.equal(value, safe.networks[name].state_dict()[key]), key


def test_the_layout_changes_results_by_rounding_only() -> None:
    ours, theirs = trainer_of(OPTIONS, "speed={channels_last: true}"), trainer_of(OPTIONS, "speed=safe")
    assert is_last(ours.networks["discriminator"])
    for trainer in (ours, theirs):
        for network in (*trainer.networks.values(), *trainer.emas.values()):
            network.double()
    torch.manual_seed(0)
    for number in range(20):
        at_random = torch.get_rng_state()
        hq = {"hq": batch(number)["hq"].double()}
        ours.train_step(hq)
        torch.set_rng_state(at_random)
        theirs.train_step(hq)
    for name, network in {**ours.networks, **{f"{name}.ema": net for name, net in ours.emas.items()}}.items():
        other = theirs.emas[name[:-4]] if name.endswith(".ema") else theirs.networks[name]
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[key], rtol=1e-8, atol=1e-10)
            assert not (value.dim() == 4 and key.endswith("weight")) or is_last(network)


def test_a_run_that_goes_on_repeats_the_choice_although_it_would_choose_otherwise(
    timed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(OPTIONS)
    run(trainer, 2)
    saved = trainer.save(tmp_path / "saved")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(Trial, "share", lambda *_: 2.0)
    again = trainer_of(OPTIONS)
    again.resume(saved)
    assert is_last(again.networks["generator"]) and "as before" in again.news[0]
    run(trainer, 2)
    run(again, 2)
    assert is_last(again.networks["generator"])
    for name, value in weights(trainer.networks["generator"]).items():
        assert torch.equal(value, again.networks["generator"].state_dict()[name])
    safe = trainer_of(OPTIONS, "speed=safe")
    safe.resume(saved)
    run(safe, 1)
    assert not is_last(safe.networks["generator"])


def test_what_fails_in_another_layout_stays_as_it_is(timed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def share(self: Trial, change: Any, deadline: float) -> float:
        raise RuntimeError("view size is not compatible\nwith this layout")

    monkeypatch.setattr(Trial, "share", share)
    trainer = trainer_of(OPTIONS)
    run(trainer, 1)
    assert "channels_last fails: RuntimeError: view size is not compatible)" in trainer.news[0]
    assert not is_last(trainer.networks["generator"])


def test_a_trial_runs_a_network_forward_and_backward_with_what_it_was_called_with() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    network.requires_grad_(False)
    image = torch.rand(2, 1, 8, 8, requires_grad=True)
    before = weights(network)
    seen: list[Tensor] = []

    def change(copy: nn.Module) -> None:
        copy.register_forward_hook(lambda module, args, output: seen.append(args[0]))
        put_channels_last(copy)

    cpu, precision = torch.device("cpu"), trainer_of(OPTIONS).precision
    network.register_forward_hook(lambda *_: (random.random(), np.random.rand(), None)[-1])
    at_random, others = torch.get_rng_state(), (random.getstate(), np.random.get_state()[1].tolist())
    trial = Trial(network, ["0.weight"], Inputs.of((image,), {}), cpu, precision)
    assert trial.seconds > 0 and trial.share(change, deadline=0) > 0
    assert len(seen) == 3 and all(torch.equal(one, image) for one in seen)  # eval mode, a rehearsal, one timed
    assert torch.equal(torch.get_rng_state(), at_random) and image.grad is None
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others
    assert all(torch.equal(value, before[name]) for name, value in weights(network).items())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_those_around_a_network_do_not_notice_its_layout() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> Any:
            return {"one": self.conv(x), "more": [(self.conv(x), 3)]}

    network = Many()
    put_channels_last(network)
    out = network(torch.rand(2, 1, 8, 8))
    assert out["one"].is_contiguous() and out["more"][0][0].is_contiguous() and out["more"][0][1] == 3


def test_networks_that_are_differentiated_twice_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    penalty = "steps.discriminator_step.losses.tell.gradient_penalty=true"
    trainer = trainer_of(OPTIONS, "speed={compile: true}", penalty)
    assert compiled == ["DCGANGenerator"]
    assert trainer.tuning.choices["generator"].compile and "discriminator" not in trainer.tuning.choices


@pytest.mark.slow
def test_a_compiled_network_trains() -> None:
    ours, theirs = trainer_of(GAN, "speed={compile: true}"), trainer_of(GAN, "speed=safe")
    for number in range(3):
        ours.train_step(gan_batch(seed=number))
        theirs.train_step(gan_batch(seed=number))
    for name, network in ours.networks.items():
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, theirs.networks[name].state_dict()[key], rtol=1e-4, atol=1e-5)


def test_a_cache_that_cannot_be_written_is_told(
    timed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    trainer = trainer_of(OPTIONS)
    run(trainer, 1)
    assert any("cannot be kept for the next run" in sentence for sentence in trainer.news)
    assert is_last(trainer.networks["generator"])


def test_without_a_cache_each_run_measures(timed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "expanduser", lambda path: path)  # as where nobody's home is known
    for runs in (1, 2):
        trainer = trainer_of(OPTIONS)
        run(trainer, 1)
        assert len(timed) == 2 * runs
        assert any("there is no home; set XDG_CACHE_HOME" in sentence for sentence in trainer.news)


def test_a_damaged_cache_is_measured_over(timed: list[str], an_empty_cache: Path) -> None:
    run(trainer_of(OPTIONS), 1)
    (file,) = an_empty_cache.rglob("*.json")
    for text in ("{", "[]", '{"generator": 3}', json.dumps({"generator": {"why": ""}})):
        file.write_text(text)
        run(trainer_of(OPTIONS), 1)
    assert len(timed) == 10
    assert set(json.loads(file.read_text())) == {"generator", "discriminator"}
    assert [one.suffix for one in file.parent.iterdir()] == [".json"]


def test_a_network_that_is_called_later_is_measured_then(timed: list[str]) -> None:
    trainer = trainer_of(OPTIONS, "steps.discriminator_step.after=3", "steps.generator_step.losses.fool.after=2",
                         "steps.generator_step.losses.near={type: pix, criterion: l1, real: hq, fake: fake}")  # fmt: skip
    run(trainer, 2)
    assert timed == ["DCGANGenerator"] and not trainer.tuning.pending
    run(trainer, 1)
    assert timed == ["DCGANGenerator", "DCGANDiscriminator"]
    run(trainer, 2)
    assert len(timed) == 2


def test_inputs_of_any_kind_are_kept() -> None:
    class Pair(NamedTuple):
        one: Tensor
        two: int

    pair, label = Pair(torch.ones(1), 2), torch.tensor([3])
    kept = Inputs.of((pair, [label], {"mask": None}), {"scale": 2.0})
    assert isinstance(kept.args[0], Pair) and kept.args[0].two == 2 and kept.args[0].one is not pair.one
    assert kept.args[0].one.equal(pair.one) and kept.args[1][0] is not label and kept.args[1][0].equal(label)
    assert kept.args[2] == {"mask": None} and kept.kwargs == {"scale": 2.0}


def test_a_copy_of_a_network_is_not_watched(timed: list[str]) -> None:
    trainer = trainer_of(OPTIONS)
    copy = deepcopy(trainer.networks["discriminator"])
    run(trainer, 1)
    copy(batch()["hq"])
    run(trainer, 2)
    assert len(timed) == 2
