"""What is random about a sample follows from the seed, the epoch and the sample, whichever worker makes it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from gradloom.engine.data.feed import training_batches
from gradloom.engine.data.order import Position
from making import plan_of

PLAN = """
    name: streams
    datasets: {train: {%s, scale: 2, fixed_corruptions: [noise, lq_resampling, motion_blur, color_jitter],
                       random_corruptions: [jpeg, interlacing, color_shift], num_corrupts_per_image: 1, batch_size: 2}}
    networks: {net: {which_model: test_mlp, inputs: 8, outputs: 1}}
    steps:
      step:
        training: net
        optimizer_params: {lr: 1e-3}
        injectors: {out: {type: generator, generator: net, in: lq, out: out}}
        losses: {small: {type: direct, key: out}}
    train: {niter: 4, manual_seed: 4}
"""
DATASETS = {
    "imagefolder": "mode: imagefolder, all_image_color_jitter: 0.1, paths: ",
    "single_image_extensible": "mode: single_image_extensible, paths: ",
    "multi_frame_extensible": "mode: multi_frame_extensible, num_frames: 2, paths: ",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four times the same picture, as the frames of a film, so that only chance tells samples apart."""
    folder = tmp_path_factory.mktemp("frames")
    picture = torch.randint(256, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for number in range(4):
        (folder / f"film_{number:08d}.jpg").mkdir()
        to_pil_image(picture).save(folder / f"film_{number:08d}.jpg" / "00000001.png")
    return folder


def epochs(text: str, workers: int, *more: str) -> list[dict[str, Tensor]]:
    """The lq of the four samples of two epochs by name, with how strongly each was corrupted."""
    plan = plan_of(PLAN % text, f"datasets.train.n_workers={workers}", *more)
    batches, per_epoch = training_batches(plan, Position(), 4, torch.device("cpu"))
    assert per_epoch == 2
    found: list[dict[str, Tensor]] = [{}, {}]
    for number, fetched in enumerate(batches):
        for place, name in enumerate(fetched.names):
            values = [fetched.batch[key][place].flatten() for key in ("lq", "corruption_entropy")]
            found[number // per_epoch][name.split("(")[1]] = torch.cat(values)
    return found


@pytest.mark.parametrize("mode", DATASETS)
def test_samples_differ_by_place_and_epoch_and_come_again(folder, mode):
    text = DATASETS[mode] + str(folder)
    alone = epochs(text, 0)
    assert [len(epoch) for epoch in alone] == [4, 4]
    everything = [sample for epoch in alone for sample in epoch.values()]
    for number, sample in enumerate(everything):
        assert not any(torch.equal(sample, other) for other in everything[number + 1 :])
    for other in (epochs(text, 2), epochs(text, 0)):
        for epoch, again in zip(alone, other, strict=True):
            assert epoch.keys() == again.keys()
            assert all(torch.equal(epoch[name], again[name]) for name in epoch)
    elsewhere = epochs(text, 0, "train.manual_seed=5")
    assert not any(torch.equal(elsewhere[0][name], alone[0][name]) for name in alone[0])


def test_a_seed_of_the_corruptions_makes_them_alike_in_every_epoch(folder):
    text = DATASETS["single_image_extensible"] + str(folder)
    first, second = epochs(text, 2, "datasets.train.random_seed=3")
    assert all(torch.equal(first[name], second[name]) for name in first)
    samples = list(first.values())
    assert not torch.equal(samples[0], samples[1])
