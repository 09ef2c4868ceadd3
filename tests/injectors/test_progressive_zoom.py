"""A generator that zooms in, against a tree of tiles walked by hand."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.datasets.multiscale import tree
from gradloom.errors import RunError
from gradloom.injectors.progressive_zoom_generator import ProgressiveZoomGenerator

torch.manual_seed(0)
IMAGES = torch.rand(2, 3, 32, 32, dtype=torch.float64)
HQ = torch.stack([torch.stack([F.adaptive_avg_pool2d(tile, 8) for tile in tree(image, 3)]) for image in IMAGES])
LQ = F.avg_pool2d(HQ.flatten(0, 1), 2).unflatten(0, (2, 21))


class Doubling(nn.Module):
    """Twice the size, and features of the size of the input; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given = list[tuple[Any, ...]]()

    def forward(self, tile: Tensor, again: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.given.append((tile, again))
        features = tile + (0 if again is None else 0.5 * again)
        return F.interpolate(features, scale_factor=2, mode="nearest"), features


def part(**options: Any) -> ProgressiveZoomGenerator:
    fixed = {"generator": "g", "in_": ["lq", "None"], "out": ("made", "features"), "hq": "hq", "hq_output": "real"}
    return ProgressiveZoomGenerator(
        **fixed | {"depth": 3, "num_branches": 4, "feed_gen_output_into_input": False} | options
    )


def corner(image: Tensor, quarter: int) -> Tensor:
    half = image.shape[-1] // 2
    top, left = quarter // 2 * half, quarter % 2 * half
    return image[..., top : top + half, left : left + half]


def where(tile: Tensor, tiles: Tensor) -> int:
    (index,) = [index for index in range(21) if torch.equal(tile, tiles[:, index])]
    return index


def way(index: int) -> list[int]:
    """The quarters that lead to a tile: the first four are those of the whole, the others come four by four in order."""
    return [index - 1] if index < 5 else [(index - 5) // 4, (index - 5) % 4]


def test_it_goes_down_from_the_whole_to_tiles_of_the_last_level() -> None:
    generator = Doubling()
    assert part().writes() == ("made", "features", "real")
    made, features, real = part()(generator=generator, in_=(LQ, None), hq=HQ)
    assert made.shape == (18, 3, 8, 8) and features.shape == (18, 3, 4, 4)
    indices = [where(tile, HQ) for tile in real.chunk(9)]
    assert indices == [where(tile, LQ) for tile, _ in generator.given]
    assert indices[0] == 0
    chains = [indices[start : start + 2] for start in range(1, 9, 2)]
    for upper, lower in chains:
        assert way(lower)[0] == way(upper)[0] and len(way(upper)) == 1 and len(way(lower)) == 2
    assert len({lower for _, lower in chains}) == 4
    torch.testing.assert_close(features, torch.cat([LQ[:, index] for index in indices]))


def test_all_tiles_of_the_last_level_are_reached() -> None:
    torch.manual_seed(1)
    *_, real = part(num_branches=16)(generator=Doubling(), in_=(LQ, None), hq=HQ)
    indices = [where(tile, HQ) for tile in real.chunk(33)]
    assert sorted(indices[2::2]) == list(range(5, 21))
    assert [way(index)[0] for index in indices[1::2]] == [way(index)[0] for index in indices[2::2]]


def test_what_was_made_comes_back_in_its_quarters() -> None:
    generator = Doubling()
    options = {"recurrent_index": 1, "recurrent_output_index": 1}
    _, features, real = part(**options)(generator=generator, in_=(LQ, None), hq=HQ)
    indices, outputs = [where(tile, HQ) for tile in real.chunk(9)], features.chunk(9)
    assert generator.given[0][1] is None
    for place in range(1, 9):
        parent = 0 if indices[place] < 5 else place - 1
        quarter = corner(outputs[parent], way(indices[place])[-1])
        torch.testing.assert_close(generator.given[place][1], quarter.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_it_may_be_given_what_it_made() -> None:
    generator = Doubling()
    made, _, real = part(feed_gen_output_into_input=True)(generator=generator, in_=(LQ, None), hq=HQ)
    indices, outputs = [where(tile, HQ) for tile in real.chunk(9)], made.chunk(9)
    for place, (before, index) in enumerate(pairwise(indices), 1):
        parent = 0 if index < 5 else place - 1
        assert parent == 0 or before < 5
        torch.testing.assert_close(generator.given[place][0], corner(outputs[parent], way(index)[-1]))


@pytest.mark.parametrize(("options", "message"), [
    ({"num_branches": 17}, "more than the last level has tiles, 16"),
    ({"recurrent_index": 1}, "write both or neither"),
    ({"input_lq_index": 2}, "'input_lq_index' is a place in 'in', from 0 to 1"),
])  # fmt: skip
def test_what_is_not_there_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**options)


def test_trees_and_generators_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RunError, match="a tree of depth 3 has 21 tiles, not 5"):
        part()(generator=Doubling(), in_=(LQ[:, :5], None), hq=HQ)
    with pytest.raises(RunError, match=r"a quarter of what was made is \(2, 2\), a tile \(4, 4\)"):
        part(feed_gen_output_into_input=True, out="made")(generator=nn.Identity(), in_=(LQ,), hq=HQ)
