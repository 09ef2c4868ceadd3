"""`mega_batch_factor: auto` doubles until a batch fits, and leaves no other trace."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import Tensor

import gradloom
from gradloom import Injector, Read, Write
from gradloom.engine.saving.snapshot import take
from gradloom.errors import RunError
from making import GAN, IMAGE_GAN, gan_batch, plan_of, trainer_of

AUTO = "train.mega_batch_factor=auto"


class Greedy(Injector, type="test_greedy"):
    """Passes on what it reads, of which only so much has room."""

    in_: Read
    out: Write
    room: int
    error: str = "torch"

    def setup(self) -> None:
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, in_: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1)
        if len(in_) > self.room:
            raise {
                "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more"),
                "python": MemoryError(),
                "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
                "other": RuntimeError("something else"),
            }[self.error]
        return in_ * 1


def greedy_gan(room: int, error: str = "torch", after: int = 0) -> str:
    lines = f"          greedy: {{type: test_greedy, in: z, out: greedy, room: {room}, error: {error}}}\n"
    text = GAN.replace("          drawn:", f"{lines}          drawn:").replace(
        "in: z, out: drawn", "in: greedy, out: drawn"
    )
    return text.replace("      generator_step:\n", f"      generator_step:\n        after: {after}\n")


def state_of(trainer: gradloom.Trainer) -> dict[str, Any]:
    snapshot = take(trainer)
    return {**snapshot.state, **{name: dict(one.tensors) for name, one in snapshot.weights.items()}}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("room", "factor"), [(8, 1), (7, 2), (4, 2), (3, 4), (1, 8)])
def test_it_doubles_until_the_batch_fits_and_then_is_as_if_it_had_been_given(
    room: int, factor: int, precision: str
) -> None:
    """The step that has no room is the second: the first has updated by then, and is taken back."""
    found = trainer_of(greedy_gan(room), AUTO, f"precision={precision}")
    given = trainer_of(greedy_gan(room), f"train.mega_batch_factor={factor}", f"precision={precision}")
    for seed in range(3):
        ours, theirs = found.train_step(gan_batch(seed=seed)), given.train_step(gan_batch(seed=seed))
        assert same(ours, theirs)
    assert found.micro_batches == factor
    assert same(state_of(found), state_of(given))
    assert all(parameter.grad is None for net in found.networks.values() for parameter in net.parameters())
    (told,) = found.news
    said = "memory suffices" if factor == 1 else f"{factor} micro-batches fit, fewer did not (CUDA out of memory."
    assert told.startswith(f"train.mega_batch_factor: auto: {said}")
    assert told.endswith("tried iteration 0")


def test_batch_norm_noise_and_averages_are_as_before() -> None:
    text = f"name: images\ntrain: {{niter: 10, ema_rate: 0.9}}\n{IMAGE_GAN}"
    text = text.replace("drawn: {", "greedy: {type: test_greedy, in: z, out: much, room: 3}\n      drawn: {")
    text = text.replace("in: z, out: fake", "in: much, out: fake")
    ends = []
    for factor in ("auto", "2"):
        trainer = trainer_of(text, f"train.mega_batch_factor={factor}")
        batches = [{"hq": torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(seed))} for seed in range(2)]
        metrics = [trainer.train_step(batch) for batch in batches]
        ends.append((metrics, state_of(trainer)))
    assert same(*ends)


@pytest.mark.parametrize(("error", "why"), [("python", "MemoryError"), ("cpu", "[enforce fail] Default")])
def test_what_says_that_memory_is_out(error: str, why: str) -> None:
    trainer = trainer_of(greedy_gan(4, error), AUTO)
    trainer.train_step(gan_batch())
    assert trainer.micro_batches == 2
    assert f"fewer did not ({why}" in trainer.news[0]


def test_another_error_is_another_error() -> None:
    with pytest.raises(RuntimeError, match="something else"):
        trainer_of(greedy_gan(4, "other"), AUTO).train_step(gan_batch())


def test_iterations_to_come_are_tried_too() -> None:
    trainer = trainer_of(greedy_gan(2, after=50), AUTO)
    trainer.train_step(gan_batch())
    assert (trainer.iteration, trainer.micro_batches) == (1, 4)
    assert trainer.news[0].endswith("tried iterations 0, 50")


def test_a_sample_that_does_not_fit_ends_the_run() -> None:
    plan = plan_of(greedy_gan(0), AUTO)
    with pytest.raises(RunError, match="mega_batch_factor: a single sample does not fit the memory of cpu: CUDA out"):
        gradloom.Trainer(plan, device="cpu").train_step(gan_batch())


def test_a_resume_keeps_what_was_found(tmp_path: Path) -> None:
    trainer = trainer_of(greedy_gan(2), AUTO)
    trainer.train_step(gan_batch())
    resumed = trainer_of(greedy_gan(2), AUTO)
    resumed.resume(trainer.save(tmp_path / "a"))
    resumed.train_step(gan_batch())
    assert resumed.micro_batches == 4
    assert "auto: memory suffices for 4 micro-batches" in resumed.news[0]


def test_a_number_in_the_options_is_not_what_a_checkpoint_says(tmp_path: Path) -> None:
    trainer = trainer_of(greedy_gan(2), AUTO)
    trainer.train_step(gan_batch())
    resumed = trainer_of(greedy_gan(2), "train.mega_batch_factor=2")
    resumed.resume(trainer.save(tmp_path / "a"))
    assert resumed.micro_batches == 2


def test_the_listing_says_so() -> None:
    listing = gradloom.plan.drawing.listing(plan_of(GAN, AUTO))
    assert "next batch of train, in as few micro-batches as fit" in listing


REAL = """
import resource, sys, torch
sys.path[:0] = {paths}
from gradloom.engine.trainer import Trainer
from making import plan_of

torch.set_num_threads(1)
plan = plan_of('''
    name: large
    networks: {{generator: {{which_model: test_mlp, inputs: 2, outputs: 2, width: 65536}}}}
    steps:
      generator_step:
        training: generator
        optimizer: sgd
        optimizer_params: {{lr: 1e-3}}
        injectors: {{drawn: {{type: generator, generator: generator, in: z, out: drawn}}}}
        losses: {{pix: {{type: pix, criterion: l2, real: hq, fake: drawn}}}}
    train: {{niter: 10, ema_enabled: false, mega_batch_factor: auto}}
''')
trainer = Trainer(plan, device="cpu")
with open("/proc/self/statm") as opened:
    now = int(opened.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 200 * 2**20,) * 2)
trainer.train_step({{"z": torch.randn(512, 2), "hq": torch.randn(512, 2)}})
print(trainer.micro_batches, trainer.news)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are the kernel's")
def test_memory_that_really_runs_out() -> None:
    """A batch of 512 needs 134 MB for each activation and each gradient of one; there are 210 MB."""
    paths = [str(Path(__file__).resolve().parents[1]), str(Path(gradloom.__file__).resolve().parents[1])]
    script = dedent(REAL.format(paths=paths))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    count, _, told = done.stdout.partition(" ")
    assert int(count) in (2, 4, 8)
    assert "can't allocate memory" in told
