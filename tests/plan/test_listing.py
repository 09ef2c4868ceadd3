"""The listing of every file in `options/` is the one in `tests/plans/`, and the graph has an arrow for every read.

`GRADLOOM_REWRITE=1 pytest tests/plan/test_listing.py` writes the listings anew; read what has changed before you
commit it.
"""

import os
import re
from pathlib import Path

import pytest

import gradloom
from gradloom.plan.drawing import listing, mermaid
from gradloom.plan.plan import Plan
from plan.planning import load

ROOT = Path(__file__).resolve().parents[2]
PLANS = ROOT / "tests" / "plans"
OPTIONS = sorted((ROOT / "options").rglob("*.yml"))


def golden(file: Path) -> Path:
    return PLANS / f"{'_'.join(file.relative_to(ROOT / 'options').with_suffix('').parts)}.txt"


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: golden(file).stem)
def test_every_options_file_compiles_to_this_listing(file: Path) -> None:
    found = listing(gradloom.load(file))
    if os.environ.get("GRADLOOM_REWRITE"):
        golden(file).write_text(found + "\n")
    assert found.splitlines() == golden(file).read_text().splitlines()


def test_every_listing_belongs_to_a_file() -> None:
    assert {file.name for file in PLANS.glob("*.txt")} == {golden(file).name for file in OPTIONS}


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: golden(file).stem)
def test_the_graph_has_an_arrow_for_every_key_read_and_every_network_called(file: Path) -> None:
    assert_drawn(gradloom.load(file))


def assert_drawn(plan: Plan) -> None:
    lines = mermaid(plan).splitlines()
    assert lines[0] == "flowchart LR"
    boxes = dict(re.findall(r'^ +(\w+)(?:\[|\{\{)"([^"]+)"(?:\]|\}\})$', "\n".join(lines), re.M))
    arrows = set(re.findall(r'^  (\w+) -- "([^"]+)" --> (\w+)$', "\n".join(lines), re.M))
    calls = set(re.findall(r"^  (\w+) -\.-> (\w+)$", "\n".join(lines), re.M))
    writers = dict.fromkeys(plan.given, "batch")
    expected, called, count = set(), set(), 0
    for step in plan.steps:
        for call in (*step.injectors, *step.losses):
            (box,) = [name for name in boxes if name == re.sub(r"\W", "_", call.path)]
            assert boxes[box] == f"{call.name}: {call.part.type_name}"
            expected |= {(writers[key], key, box) for key in call.reads}
            called |= {(f"network_{name.removesuffix('.ema')}", box) for name in call.networks}
            writers |= dict.fromkeys(call.writes, box)
            count += 1
    assert len(boxes) == count
    assert arrows == expected
    assert calls == called
    assert sum(line.startswith("  subgraph ") for line in lines) == lines.count("  end") == len(plan.steps)


EVERYTHING = """
name: everything
datasets:
  train: {mode: random_dataset, hq_shape: [1, 8, 8], batch_size: 1}
  val: {mode: random_dataset, hq_shape: [1, 8, 8], length: 8}
networks:
  end: {which_model: dcgan_generator, image_size: 8, latent_dim: 4, channels: 1, nf: 2}
  judge: {which_model: dcgan_discriminator, image_size: 8, channels: 1, nf: 2, trainable: false}
steps:
  draw-it:
    training: end
    every: 2
    optimizer: sgd
    clip_grad_norm: 1
    optimizer_params: {lr: {cosine: {from: 1e-3, to: 0, end: 100}}, momentum: 0.9, weight_decay: 1e-2}
    injectors:
      noise: {type: noise, in: hq, shape: [4], out: z}
      drawn: {type: generator, generator: end, in: z, out: fake, args: {}}
      averaged: {type: generator, generator: end.ema, in: [z], out: steady, no_grad: true, after: 4}
      shown: {type: direct, in: fake, out: shown, eval: true}
    losses:
      fool: {type: generator_gan, gan_type: hinge, discriminator: judge, fake: fake, weight: 0.5}
      near: {type: pix, criterion: l1, real: hq, fake: fake, weight: {linear: {from: 0, to: 1, end: 9}}, before: 50}
  again:
    training: [end]
    optimizer_of: draw-it
    injectors:
      redrawn: {type: generator, generator: end, in: z, out: redrawn}
    losses:
      near: {type: pix, criterion: l2, real: hq, fake: redrawn}
  idle:
    training: []
eval:
  evaluators:
    psnr: {type: psnr, for: end.ema, fake: shown, real: hq, samples: 4, every: 3}
    ssim: {type: ssim, fake: fake, real: hq, range: [-1, 1]}
logger: {visuals: [steady]}
train: {niter: 12000, mega_batch_factor: 2}
"""

LISTED = """
# everything: 12,000 iterations, fp32
end = dcgan_generator(image_size=8, latent_dim=4, channels=1, nf=2)
judge = dcgan_discriminator(image_size=8, channels=1, nf=2)  # frozen
train = random_dataset(hq_shape=[1, 8, 8]), 1 at a time
val = random_dataset(hq_shape=[1, 8, 8], length=8), 1 at a time

hq = next batch of train, in 2 micro-batches

step draw-it, training end:  # every: 2
    z = noise(hq, shape=[4])
    fake = generator(end, z)
    steady = generator(end.ema, [z])  # after: 4; without gradients
    shown = direct(fake)  # evaluating only
    loss = 0.5 * generator_gan(judge, fake, gan_type=hinge)
    loss += linear(from=0, to=1, start=0, end=9 iterations) * pix(real=hq, fake=fake, criterion=l1)  # before: 50
    update by SGD(lr=cosine(from=0.001, to=0, start=0, end=100 iterations), momentum=0.9, weight_decay=0.01)  # all gradients clipped to norm 1
    keep z, steady

step again, training end:
    redrawn = generator(end, z)
    loss = 1 * pix(real=hq, fake=redrawn, criterion=l2)
    update by the optimizer of draw-it
    keep nothing

step idle, training nothing:
    keep nothing

measure 4 samples of val:  # end.ema in place of end
    z = noise(hq, shape=[4])
    fake = generator(end, z)
    shown = direct(fake)  # evaluating only
    psnr = psnr(fake=shown, real=hq)  # every: 3

measure all samples of val:
    z = noise(hq, shape=[4])
    fake = generator(end, z)
    ssim = ssim(fake=fake, real=hq, range=[-1, 1])
"""


def test_a_listing_tells_all_that_a_plan_does(tmp_path: Path) -> None:
    assert listing(load(tmp_path, EVERYTHING)).splitlines() == LISTED.strip().splitlines()


def test_names_that_mermaid_does_not_take_are_drawn_too(tmp_path: Path) -> None:
    plan = load(tmp_path, EVERYTHING)
    assert_drawn(plan)
    assert '  subgraph step_draw_it["draw-it: trains end"]' in mermaid(plan).splitlines()
