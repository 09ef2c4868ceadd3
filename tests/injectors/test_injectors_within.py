"""Injectors that call others, and runs with injectors that write several keys."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import gradloom
from gradloom.engine.calls import Bound
from gradloom.engine.preflight.look import look_ahead
from gradloom.errors import RunError
from gradloom.injectors.add_noise import AddNoise
from gradloom.injectors.for_each import ForEach
from gradloom.injectors.generator import Generator
from gradloom.injectors.grey import Grey
from gradloom.injectors.scheduled_scalar import ScheduledScalar
from gradloom.injectors.sr_diffs import SrDiffs
from gradloom.injectors.step_interleave import StepInterleave
from gradloom.parts import Injector, Inner, Part
from gradloom.plan.plan import Plan
from making import plan_of

VIDEO = torch.rand(2, 4, 3, 5, 5, dtype=torch.float64)


@gradloom.datasets.register("test_videos")
class Videos(Dataset[dict[str, Tensor]]):
    """Videos of four frames of noise."""

    keys = ("hq",)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"hq": torch.rand(4, 3, 6, 6)}


def within(part: Part, /, **values: object) -> Inner:
    return Inner(part, {}, values)


def test_each_slice_is_given_by_itself_and_what_is_no_input_whole() -> None:
    part = AddNoise(in_="x", out="y", scale="s")  # type: ignore[arg-type]
    scale = torch.rand(2, 1, 1, 1, dtype=torch.float64)
    torch.manual_seed(1)
    noisy = ForEach(part=part)(part=within(part, in_=VIDEO, scale=scale))
    torch.manual_seed(1)
    expected = [VIDEO[:, i] + scale * torch.randn(2, 3, 5, 5, dtype=torch.float64) for i in range(4)]
    torch.testing.assert_close(noisy, torch.stack(expected, 1))


def test_several_results_and_lists_of_them() -> None:
    part = SrDiffs(mode="produce_diff", lq="a", hq="b", out="x", diff="d")
    outer, inner = ForEach(part=part, aslist=True), within(part, lq=VIDEO, hq=3 * VIDEO)
    assert outer.writes() == ("x", "d") and outer.reads() == ("a", "b")
    beside, diffs = outer(part=inner)
    assert [len(beside), len(diffs)] == [4, 4]
    for i, diff in enumerate(diffs):
        torch.testing.assert_close(diff, 2 * VIDEO[:, i])
    torch.testing.assert_close(ForEach(part=part)(part=inner)[1], 2 * VIDEO)


def test_slices_of_slices() -> None:
    grey, videos = Grey(in_="x", out="y"), VIDEO[:, :, None].repeat(1, 1, 2, 1, 1, 1)
    middle = ForEach(part=grey)
    inner = within(middle, part=within(grey, in_=videos))
    expected = videos.mean(3, keepdim=True).expand_as(videos)
    torch.testing.assert_close(ForEach(part=middle)(part=inner), expected)


def test_what_is_taken_apart_has_one_number_of_slices() -> None:
    part = SrDiffs(mode="recombine", lq="a", hq="b", out="x")
    with pytest.raises(RunError, match=r"must have one size, it has \[3, 4\]"):
        ForEach(part=part)(part=within(part, lq=VIDEO, hq=VIDEO[:, 1:]))
    scalar = ScheduledScalar(scheduler=1.0, out="w")
    with pytest.raises(RunError, match=r"must have one size, it has \[\]"):
        ForEach(part=scalar)(part=within(scalar))


def interleaved(*parts: Injector) -> StepInterleave:
    return StepInterleave(subinjectors={str(index): part for index, part in enumerate(parts)})


def test_injectors_take_turns_by_iteration() -> None:
    parts = [ScheduledScalar(scheduler=float(index), out="w") for index in range(3)]
    outer = interleaved(*parts)
    assert outer.scheduled and outer.writes() == ("w",)
    for iteration in [0, 1, 2, 3, 7, 300]:
        outer.advance(iteration, 1)
        assert outer(subinjectors={str(index): within(part) for index, part in enumerate(parts)}) == iteration % 3
        assert [*outer.scheduled_values()] == [iteration % 3]


def test_each_turn_writes_the_same() -> None:
    with pytest.raises(ValueError, match="do not write the same keys in the same order"):
        interleaved(Grey(in_="x", out="y"), Grey(in_="x", out="z"))
    with pytest.raises(ValueError, match="'subinjectors' is empty"):
        interleaved()


def test_a_generator_may_be_called_in_full_precision() -> None:
    net, x = torch.nn.Linear(3, 3), torch.rand(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert Generator(generator="g", in_="x", out="y")(generator=net, in_=x).dtype == torch.bfloat16
        full = Generator(generator="g", in_=["x"], out="y", fp16=False)(generator=net, in_=(x.bfloat16(),))
    torch.testing.assert_close(full, net(x.bfloat16().float()), rtol=0, atol=0)


RUN = """
name: several
datasets: {train: {mode: test_videos, batch_size: 4}}
networks:
  net: {which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 4, nb: 1, gc: 2, scale: 1}
steps:
  s:
    training: net
    optimizer_params: {lr: 1e-3}
    injectors:
      frames: {type: decompose_dimension, in: hq, dim: 1, out: frames}
      corners: {type: image_patch, in: frames, patch_size: 4, out: corner}
      turns:
        type: step_interleave
        subinjectors:
          plain: {type: direct, in: corner_bottom_right, out: seen}
          grey: {type: grey, in: corner_bottom_right, out: seen}
      made: {type: generator, generator: net, in: seen, out: made}
      video: {type: recompose_dimension, in: frames, reverse_shape: frames_reverse_shape,
              reverse_permute: frames_reverse_permute, out: video}
      greys: {type: for_each, part: {type: grey, in: video, out: greys}}
    losses:
      pix: {type: pix, criterion: l1, real: greys, fake: video}
      size: {type: direct, key: made}
train: {niter: 4, mega_batch_factor: 2}
"""


def plan() -> Plan:
    return plan_of(RUN)


def test_a_run_with_injectors_that_write_several_keys() -> None:
    trainer = gradloom.Trainer(plan())
    for iteration in range(2):
        hq = torch.rand(4, 4, 3, 6, 6)
        trainer.train_step({"hq": hq}, keep=["seen", "video", "greys"])
        states = [micro.state for micro in trainer.states]
        video, greys = (torch.cat([state[key] for state in states]) for key in ("video", "greys"))
        assert torch.equal(video, hq)
        torch.testing.assert_close(greys, hq.mean(2, keepdim=True).expand_as(hq))
        seen = [state["seen"] for state in states]
        corner = [part.transpose(0, 1).flatten(0, 1)[..., 2:, 2:] for part in hq.chunk(2)]
        expected = corner if iteration == 0 else [one.mean(1, keepdim=True).expand_as(one) for one in corner]
        torch.testing.assert_close(seen, expected)


def test_such_a_run_can_be_looked_at_beforehand() -> None:
    report = look_ahead(plan(), torch.device("cpu"))
    assert not report.faults and not report.notices


def test_the_turns_are_shown_by_name() -> None:
    from gradloom.plan.drawing import listing

    assert "step_interleave(subinjectors.plain=direct(corner_bottom_right), subinjectors.grey=grey(" in listing(plan())


def test_a_fault_within_turns_stands_at_its_line() -> None:
    with pytest.raises(gradloom.OptionsError) as refused:
        plan_of(RUN.replace("grey: {type: grey,", "grey: {type: gray,"))
    assert [fault.path for fault in refused.value.faults] == ["steps.s.injectors.turns.subinjectors.grey.type"]


def test_an_unknown_key_within_turns_is_said_there() -> None:
    with pytest.raises(gradloom.OptionsError) as refused:
        plan_of(RUN.replace("grey: {type: grey, in: corner_bottom_right", "grey: {type: grey, in: corner_bottom_rigth"))
    (fault,) = refused.value.faults
    assert fault.path == "steps.s.injectors.turns.subinjectors.grey.in" and "did you mean" in fault.message


def test_turns_are_copied_with_the_part_around_them() -> None:
    trainer = gradloom.Trainer(plan())
    call = trainer.plan.steps[0].injectors[2]
    state: dict[str, Tensor] = {"corner_bottom_right": torch.rand(1, 3, 4, 4)}
    Bound(call, {}).inject(state)
    assert state["seen"] is state["corner_bottom_right"]
    assert len([*call.part.whole()]) == 3
