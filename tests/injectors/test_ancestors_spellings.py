"""Every general injector with the ancestor's keys, all in one step, compiles and runs."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

import gradloom
from making import plan_of


@gradloom.datasets.register("test_pairs_and_clips")
class PairsAndClips(Dataset[dict[str, Tensor]]):
    """Images and clips of four frames."""

    keys = ("lq", "hq", "clip", "clip_hq")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        shapes = {"lq": (3, 16, 16), "hq": (3, 16, 16), "clip": (4, 3, 16, 16), "clip_hq": (4, 3, 16, 16)}
        return {key: torch.rand(shape) for key, shape in shapes.items()}


WRITTEN = """
      a: {type: generator, generator: generator, in: lq, out: gen, grad: true, fp16: false}
      b: {type: discriminator, discriminator: discriminator, in: [hq], out: seen}
      c: {type: direct, in: hq, out: same}
      d: {type: squeeze, in: hq, out: squeezed, dim: 1}
      e: {type: pad, in: hq, out: padded, multiple: 5}
      f: {type: concatenate, in: [hq, lq], out: both, dim: 1}
      g: {type: add_noise, in: hq, out: noisy, mode: uniform, scale: scalar}
      h: {type: add_noise, in: hq, out: noisier, scale: ~}
      i: {type: noise, in: hq, out: z, shape: [8]}
      j: {type: stylegan2_noise, in: hq, out: styles, mix_probability: 0.9, latent_dim: 16}
      k: {type: grey, in: hq, out: grey}
      l: {type: interpolate, in: hq, out: small, scale_factor: 0.5, mode: bilinear}
      m: {type: interpolate, in: hq, out: sized, size: 8, mode: nearest}
      n: {type: image_patch, in: hq, out: patch, patch_size: 10, resize: 12}
      o: {type: margin_removal, in: hq, out: kept, margin: 2, random_shift_max: 1}
      p: {type: for_each, subtype: grey, in: clip, out: greys, aslist: true}
      q: {type: for_each, subtype: generator, generator: generator, in: clip, out: gens}
      r: {type: constant, constant_type: zeroes, like: hq, out: zeroes}
      s: {type: indices_extractor, in: clip, out: [first, second], dim: 1}
      t: {type: batch_rotate, in: hq, out: rotated}
      u: {type: sr_diffs, mode: produce_diff, lq: lq, hq: hq, diff: diff, include_combined: true, out: diffs}
      v: {type: sr_diffs, mode: recombine, lq: lq, hq: diff, out: again}
      w: {type: multi_frame_combiner, mode: combine, flow: flow, in: clip, in_hq: clip_hq, out: frames, out_hq: middle}
      x: {type: multi_frame_combiner, mode: synthesize, dim: 3, in: lq, out: threefold}
      y: {type: mix_and_label, in: [lq, hq], out: mixed, out_labels: labels}
      z: {type: random_crop, in: hq, out: cropped, dim_in: 16, dim_out: 8}
      aa: {type: decompose_dimension, in: clip, out: apart, dim: 1}
      ab: {type: recompose_dimension, in: apart, out: whole, reverse_shape: apart_reverse_shape,
           reverse_permute: apart_reverse_permute}
      ac: {type: normalize, in: hq, out: normal, shift: 0.5, scale: 0.5}
      ad: {type: denormalize, in: normal, out: usual, shift: 0.5, scale: 0.5}
      ae: {type: frequency_bin_normalize, in: hq, out: binned, stats_file: "STATISTICS"}
      af: {type: step_interleave, in: hq, out: turn, subinjectors: {one: {type: grey}, other: {type: direct}}}
"""
RUN = """
name: spellings
datasets: {train: {mode: test_pairs_and_clips, batch_size: 4}}
networks:
  generator: {type: generator, which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 4, nb: 1, gc: 2, scale: 1}
  discriminator: {type: discriminator, which_model: dcgan_discriminator, image_size: 16, nf: 4, trainable: false}
  flow: {which_model: raft, updates: 1, trainable: false}
steps:
  step:
    training: generator
    optimizer_params: {lr: 1e-4}
    injectors:
      scale: {type: scheduled_scalar, out: scalar,
              scheduler: {type: linear_decay, initial_weight: 1, steps: 10, lower_bound: 0, start_step: 0}}""" + WRITTEN + """
    losses: {size: {type: direct, key: gen}}
train: {niter: 2}
"""  # fmt: skip


def test_they_compile_with_notices_only_and_run(tmp_path: Path) -> None:
    torch.save((torch.rand(3), 1 + torch.rand(3)), tmp_path / "statistics.pt")
    plan = plan_of(RUN.replace("STATISTICS", str(tmp_path / "statistics.pt")))
    written = [key for call in plan.steps[0].injectors for key in call.writes]
    trainer = gradloom.Trainer(plan)
    data = PairsAndClips()
    batch = {key: torch.stack([data[index][key] for index in range(4)]) for key in PairsAndClips.keys}
    for _ in range(2):
        trainer.train_step(batch, keep=written)
    state = trainer.states[0].state
    assert not [key for key in written if key not in state]
    assert state["patch_bottom_right"].shape == (4, 3, 12, 12) and len(state["greys"]) == 4
    assert torch.equal(state["whole"], batch["clip"]) and torch.equal(state["turn"], batch["hq"])
    torch.testing.assert_close(state["usual"], batch["hq"])
