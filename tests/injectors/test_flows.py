"""Injectors that move images by flows; networks of flows are written out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.injectors.multi_frame_combiner import MultiFrameCombiner
from gradloom.injectors.stereoscopic_flow2image import StereoscopicFlow2image
from gradloom.injectors.stereoscopic_resample import StereoscopicResample
from gradloom.injectors.teco_flow_adjustment import TecoFlowAdjustment
from gradloom.injectors.teco_recurrent_generated_sequence_injector import TecoRecurrentGeneratedSequenceInjector

torch.manual_seed(0)
IMAGES = torch.rand(2, 3, 5, 7, dtype=torch.float64)
VIDEO = torch.rand(2, 4, 3, 6, 6, dtype=torch.float64)


class Flow(nn.Module):
    """A flow by a formula, which notes what it is shown."""

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.formula, self.shown = formula, list[Tensor]()

    def forward(self, pair: Tensor) -> Tensor:
        self.shown.append(pair)
        return self.formula(pair[:, :, 0], pair[:, :, 1])


def to_the_right(first: Tensor, second: Tensor) -> Tensor:
    """One pixel to the right everywhere."""
    return torch.stack([torch.ones_like(first[:, 0]), torch.zeros_like(first[:, 0])], 1)


def by_difference(first: Tensor, second: Tensor) -> Tensor:
    return (second - first)[:, :2]


def warped(image: Tensor, flow: Tensor) -> Tensor:
    """Bilinear values pixel by pixel."""
    height, width = image.shape[-2:]
    result = torch.empty_like(image)
    for b in range(len(image)):
        for y in range(height):
            for x in range(width):
                fx = min(max(x + flow[b, 0, y, x].item(), 0), width - 1)
                fy = min(max(y + flow[b, 1, y, x].item(), 0), height - 1)
                left, top = min(int(fx), width - 2), min(int(fy), height - 2)
                a, c = fx - left, fy - top
                above = (1 - a) * image[b, :, top, left] + a * image[b, :, top, left + 1]
                below = (1 - a) * image[b, :, top + 1, left] + a * image[b, :, top + 1, left + 1]
                result[b, :, y, x] = (1 - c) * above + c * below
    return result


def test_resampling_is_bilinear_and_stays_within_the_image() -> None:
    flow = 3 * torch.randn(2, 2, 5, 7, dtype=torch.float64)
    part = StereoscopicResample(in_="x", flowfield="f", out="y")
    assert part.reads() == ("x", "f")
    torch.testing.assert_close(part(in_=IMAGES, flowfield=flow), warped(IMAGES, flow))


def test_resampling_by_nothing_and_by_whole_pixels() -> None:
    part, still = StereoscopicResample(in_="x", flowfield="f", out="y"), torch.zeros(2, 2, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(part(in_=IMAGES, flowfield=still), IMAGES)
    right = part(in_=IMAGES, flowfield=to_the_right(IMAGES, IMAGES))
    torch.testing.assert_close(right[..., :-1], IMAGES[..., 1:])
    torch.testing.assert_close(right[..., -1], IMAGES[..., -1])


def test_resampling_has_gradients_of_images_and_flow() -> None:
    flow = (0.3 * torch.rand(2, 2, 5, 7, dtype=torch.float64) + 0.1).requires_grad_()
    part = StereoscopicResample(in_="x", flowfield="f", out="y")
    image = IMAGES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, f: part(in_=x, flowfield=f), (image, flow))


def test_a_flow_is_coloured_by_direction_and_white_where_nothing_moves() -> None:
    flow = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    flow[0, 0, 1, 1], flow[1, 0, 1, 1], flow[1, 0, 0, 0] = 2, 20, -20
    images = StereoscopicFlow2image(in_="f", out="y")(in_=flow)
    assert images.shape == (2, 3, 3, 3) and images.dtype == torch.float64
    assert images.min() >= 0 and images.max() <= 1
    torch.testing.assert_close(images[0, :, 0, 0], torch.ones(3, dtype=torch.float64))
    assert torch.equal(images[0, :, 1, 1], images[1, :, 1, 1])  # each sample by its own longest movement
    right, left = images[1, :, 1, 1], images[1, :, 0, 0]
    assert right[0] == right.max() and left[0] == left.min()  # red, and its opposite


def test_frames_are_warped_onto_the_middle_one() -> None:
    part = MultiFrameCombiner(mode="combine", in_="x", out="y", in_hq="hq", out_hq="z", flow="f")
    assert (part.writes(), part.networks()) == (("y", "z", "y_flow_sample"), ("f",))
    network = Flow(by_difference)
    combined, hq, sample = part(in_=VIDEO, in_hq=2 * VIDEO, flow=network)
    middle = VIDEO[:, 2]
    others = [warped(VIDEO[:, i], by_difference(middle, VIDEO[:, i])) for i in (0, 1, 3)]
    torch.testing.assert_close(combined, torch.cat([middle, *others], 1))
    torch.testing.assert_close(sample, torch.cat([middle, *others], 0))
    assert torch.equal(hq, 2 * middle)
    assert torch.equal(network.shown[0], torch.stack([middle, VIDEO[:, 0]], 2))


def test_one_image_in_place_of_several_frames() -> None:
    part = MultiFrameCombiner(mode="synthesize", in_="x", out="y", dim=3)
    assert part.writes() == ("y",)
    (several,) = part(in_=IMAGES, in_hq=None, flow=None)
    assert torch.equal(several, torch.cat([IMAGES] * 3, 1))


@pytest.mark.parametrize(("options", "message"), [
    ({"mode": "combine"}, "needs 'flow'"), ({"mode": "combine", "flow": "f", "dim": 3}, "has no 'dim'"),
    ({"mode": "synthesize"}, "needs 'dim'"), ({"mode": "synthesize", "dim": 3, "flow": "f"}, "has no 'flow'"),
    ({"mode": "synthesize", "dim": 3, "in_hq": "a"}, "write both or neither"),
])  # fmt: skip
def test_each_mode_has_its_own_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiFrameCombiner(in_="x", out="y", **options)


def test_an_image_is_moved_onto_another_that_is_smaller() -> None:
    small, large = torch.rand(2, 3, 4, 4, dtype=torch.float64), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    network = Flow(to_the_right)
    moved = TecoFlowAdjustment(flow_network="f", flow_target="a", flowed="b", out="y")(
        flow_network=network, flow_target=small, flowed=large
    )
    torch.testing.assert_close(moved[..., :-2], large[..., 2:])  # one pixel there is two here
    reduced = F.interpolate(large, scale_factor=0.5, mode="bicubic")
    torch.testing.assert_close(network.shown[0], torch.stack([small, reduced], 2))


class Doubled(nn.Module):
    """Images twice as large: of the frame, and of what was made before."""

    def forward(self, frame: Tensor, before: Tensor, gain: float = 1.0) -> tuple[Tensor, Tensor]:
        large = F.interpolate(frame, scale_factor=2, mode="nearest")
        return gain * large + 0.5 * before, before


def teco(**options: Any) -> TecoRecurrentGeneratedSequenceInjector:
    return TecoRecurrentGeneratedSequenceInjector(
        generator="g", flow_network="f", recurrent_index=1, scale=2, **{"in_": ["lq", "hq", 0.5], "out": "y"} | options
    )


def test_a_video_is_made_forwards_and_backwards() -> None:
    hq, network = torch.rand(2, 4, 3, 12, 12, dtype=torch.float64), Flow(to_the_right)
    part = teco(out=("y", "seen"), hq_batched_key="real")
    assert part.writes() == ("y", "seen", "y_batched", "seen_batched", "real")
    assert part.reads() == ("lq", "hq", "hq")
    made, seen, made_batched, _, real = part(
        generator=Doubled(), flow_network=network, in_=(VIDEO, hq, 0.5), first_inputs=None, flow_input_key=None, hq=hq
    )
    expected = list[Tensor]()
    before = torch.zeros(2, 3, 12, 12, dtype=torch.float64)
    for frame in [0, 1, 2, 3, 2, 1, 0]:
        if expected:
            reduced = F.interpolate(expected[-1], scale_factor=0.5, mode="bicubic")
            before = warped(expected[-1], 2 * to_the_right(before, before))
            torch.testing.assert_close(network.shown[len(expected) - 1], torch.stack([VIDEO[:, frame], reduced], 2))
        torch.testing.assert_close(seen[:, len(expected)], before)
        expected.append(0.5 * VIDEO[:, frame].repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.5 * before)
    torch.testing.assert_close(made, torch.stack(expected, 1))
    torch.testing.assert_close(made_batched, torch.cat(expected[:4]))
    assert torch.equal(real, torch.cat([hq[:, i] for i in range(4)]))


def test_a_video_may_begin_with_what_is_given_and_end_with_its_last_frame() -> None:
    hq, other = torch.rand(2, 2, 4, 3, 12, 12, dtype=torch.float64)
    still = Flow(lambda first, second: 0 * to_the_right(first, second))
    part = teco(do_backwards=False, hq_recurrent=True, first_inputs=["lq", "other"], flow_input_key="lq")
    made, batched = part(
        generator=Doubled(), flow_network=still, in_=(VIDEO, hq, 0.5), first_inputs=(VIDEO, other),
        flow_input_key=2 * VIDEO, hq=None,
    )  # fmt: skip
    large = VIDEO.repeat_interleave(2, 3).repeat_interleave(2, 4)
    first = large[:, 0] + 0.5 * other[:, 0]
    assert made.shape[1] == 4 and len(batched) == 8
    torch.testing.assert_close(made[:, 0], first)
    torch.testing.assert_close(made[:, 1], 0.5 * large[:, 1] + 0.5 * first)
    assert torch.equal(still.shown[0][:, :, 0], 2 * VIDEO[:, 1])


def test_gradients_go_through_what_was_made_before_and_not_through_the_flow() -> None:
    frames = VIDEO[:, :2].clone().requires_grad_()
    made, _ = teco(do_backwards=False, in_=["lq", "hq"])(
        generator=Doubled(), flow_network=Flow(by_difference), in_=(frames, torch.zeros(2, 2, 3, 12, 12).double()),
        first_inputs=None, flow_input_key=None, hq=None,
    )  # fmt: skip
    made[:, 1].sum().backward()
    assert frames.grad is not None and torch.equal(frames.grad[:, 1], torch.full((2, 3, 6, 6), 4.0).double())
    torch.testing.assert_close(frames.grad[:, 0].sum(), _reached(frames.detach()))


def _reached(frames: Tensor) -> Tensor:
    """How much of the first frame the second image holds, by a linear map: the sum over what each pixel gives."""
    ones = torch.ones(2, 3, 12, 12, dtype=torch.float64)
    first = F.interpolate(frames[:, 0], scale_factor=2, mode="nearest")
    flow = by_difference(frames[:, 1], F.interpolate(first, scale_factor=0.5, mode="bicubic"))
    return 0.5 * warped(ones, 2 * F.interpolate(flow, scale_factor=2, mode="bicubic")).sum()


def test_places_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="'recurrent_index' is a place in 'in', from 0 to 0"):
        teco(in_="lq")
    with pytest.raises(ValueError, match="'hq' is for 'hq_batched_key'"):
        teco(hq="real")
    with pytest.raises(ValueError, match="'out_batched' has a key for each"):
        teco(out_batched=("a", "b"))
