"""Two views that overlap: the region is where the twelve numbers say."""

import pytest
import torch

pytest.importorskip("kornia")
from datasets.within import Pictures, pictures
from gradloom.datasets._regions import Box, Overlap, draw_overlap, draw_shift
from gradloom.datasets.byol_structured_dataset import ByolStructuredDataset
from gradloom.parts import keys_of


class Same(Pictures):
    """Images that change slowly; `lq` is `hq`."""

    def __getitem__(self, index):
        slopes = torch.stack(torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij"))
        image = torch.cat([slopes, slopes.mean(0, keepdim=True)])
        return {"hq": image, "lq": image, "index": index}


def structured(**options):
    data = ByolStructuredDataset(pictures(Same), latent_multiple=8, **options)
    data.colours = torch.nn.Identity()
    return data


def test_what_a_sample_holds():
    data = ByolStructuredDataset(pictures(), latent_multiple=4)
    sample = data[2]
    assert set(sample) == set(keys_of(ByolStructuredDataset, {"dataset": pictures()}))
    for key in ("aug1", "aug2", "masked1", "masked2", "aug_shared_view", "i1_shared", "i2_shared"):
        assert sample[key].shape == (3, 16, 16), key
    assert sample["similar_region_dimensions"].dtype == torch.int64
    assert sample["similar_region_dimensions"].shape == (12,)


def test_parts_always_overlap():
    torch.manual_seed(0)
    for side in (4, 5, 8, 9):
        for _ in range(300):
            overlap = draw_overlap(side)
            for box in (overlap.first, overlap.second):
                assert box.top >= 0 and box.top + box.height <= side
                assert box.left >= 0 and box.left + box.width <= side
                assert box.height > side / 2 and box.width > side / 2
                inside = overlap.within(box)
                assert inside.top >= 0 and inside.top + inside.height <= box.height
                assert inside.left >= 0 and inside.left + inside.width <= box.width
            assert overlap.shared.height > 0 and overlap.shared.width > 0


def test_the_numbers_of_an_overlap():
    overlap = Overlap(8, Box(0, 2, 5, 6), Box(1, 0, 6, 5), flipped=True)
    assert overlap.shared == Box(1, 2, 4, 3)
    assert overlap.numbers().tolist() == [8, 5, 6, 1, 0, 6, 5, 0, 2, 1, 4, 3]


def test_the_region_looks_the_same_in_both_views():
    data = structured()
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        sample = data[0]
        *_, flipped, height, width = sample["similar_region_dimensions"].tolist()
        seen.add(flipped)
        first, second = (sample[f"i{number}_shared"] for number in (1, 2))
        # Views are resized, so that a unit shows somewhat more than it did; colours tell places to within a unit or so.
        assert (first - second).abs().max() <= 0.26
        assert (first[:, height * 8 :] == 0).all() and (first[:, :, width * 8 :] == 0).all()
        assert (first[:, : height * 8, : width * 8].abs().sum(0) > 0).float().mean() > 0.98
    assert seen == {0, 1}


def test_views_are_parts_resized_and_the_second_mirrored():
    data = structured()
    for seed in range(10):
        torch.manual_seed(seed)
        sample = data[0]
        flipped = sample["similar_region_dimensions"][9]
        rising = [sample[f"aug{number}"][1].diff(dim=-1).sum() > 0 for number in (1, 2)]
        assert rising == [True, not flipped]
        assert sample["aug1"].shape == (3, 64, 64)


def test_shifts_stay_in_the_image():
    torch.manual_seed(0)
    corners = [draw_shift(Box(0, 3, 5, 5), 8, 4) for _ in range(100)]
    assert {down >= 0 for down, _ in corners} == {True}
    assert {right for _, right in corners} == {0}
    assert {down for down, _ in corners} == {0, 1, 2, 3, 4}
    assert draw_shift(Box(1, 1, 5, 5), 8, 0) == (0, 0)
    shapes = [structured(jitter_range=5)[0]["aug2"].shape for _ in range(10)]
    assert shapes == [(3, 64, 64)] * 10


@pytest.mark.parametrize("unit", [5, 32, 64])
def test_images_that_do_not_divide_are_refused(unit):
    data = ByolStructuredDataset(pictures(Same), latent_multiple=unit)
    with pytest.raises(ValueError, match=rf"squares of one size, a multiple of latent_multiple {unit} and more than 3"):
        data[0]
