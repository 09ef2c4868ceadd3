"""Injectors that put samples, slices and dimensions elsewhere, or scale them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gradloom.errors import RunError
from gradloom.injectors.batch_rotate import BatchRotate
from gradloom.injectors.decompose_dimension import DecomposeDimension
from gradloom.injectors.frequency_bin_normalize import FrequencyBinNormalize
from gradloom.injectors.indices_extractor import IndicesExtractor
from gradloom.injectors.mix_and_label import MixAndLabel
from gradloom.injectors.recompose_dimension import RecomposeDimension
from gradloom.injectors.sr_diffs import SrDiffs
from gradloom.injectors.stylegan2_noise import Stylegan2Noise

VIDEO = torch.arange(2 * 3 * 4 * 5, dtype=torch.float64).reshape(2, 3, 4, 5)


def test_a_batch_moves_one_place_on() -> None:
    assert torch.equal(BatchRotate(in_="x", out="y")(in_=VIDEO), torch.stack([VIDEO[1], VIDEO[0]]))


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_slices_become_samples_slice_by_slice_and_go_back(dim: int) -> None:
    part = DecomposeDimension(in_="x", out="y", dim=dim)
    assert part.writes() == ("y", "y_reverse_shape", "y_reverse_permute")
    samples, shape, order = part(in_=VIDEO)
    expected = [
        VIDEO[sample].select(dim - 1 if dim > 0 else dim, i) for i in range(VIDEO.shape[dim]) for sample in (0, 1)
    ]
    assert torch.equal(samples, torch.stack(expected))
    back = RecomposeDimension(in_="y", out="z", reverse_shape="a", reverse_permute="b")
    assert torch.equal(back(in_=2 * samples, reverse_shape=shape, reverse_permute=order), 2 * VIDEO)


def test_samples_may_be_cut_short() -> None:
    samples, *_ = DecomposeDimension(in_="x", out="y", dim=1, cutoff_dim=3)(in_=VIDEO)
    assert torch.equal(samples, torch.stack([VIDEO[0, 0], VIDEO[1, 0], VIDEO[0, 1]]))


@pytest.mark.parametrize(("options", "message"), [
    ({"dim": 0}, "'dim' is 0, which is the batch already"), ({"dim": 1, "cutoff_dim": 0}, "keeps at least one sample"),
])  # fmt: skip
def test_what_cannot_be_taken_apart_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecomposeDimension(in_="x", out="y", **options)


@pytest.mark.parametrize("dim", [1, 2])
def test_slices_under_their_own_names(dim: int) -> None:
    part = IndicesExtractor(in_="x", out=("a", "b"), dim=dim)
    assert part.writes() == ("a", "b")
    first, second = part(in_=VIDEO)
    assert torch.equal(first, VIDEO.select(dim, 0)) and torch.equal(second, VIDEO.select(dim, 1))


def test_no_more_names_than_slices() -> None:
    with pytest.raises(RunError, match="'out' names 4 slices, dimension 1 has 3"):
        IndicesExtractor(in_="x", out=("a", "b", "c", "d"))(in_=VIDEO)
    with pytest.raises(ValueError, match="name a key for each slice"):
        IndicesExtractor(in_="x", out=())


def test_mixed_samples_come_from_where_their_labels_say() -> None:
    torch.manual_seed(0)
    sources = tuple(torch.full((3000, 2), float(i)) + torch.arange(3000)[:, None] * 10 for i in range(3))
    mixed, labels = MixAndLabel(in_=("a", "b", "c"), out="x", out_labels="y")(in_=sources)
    assert labels.dtype == torch.int64
    for sample in range(3000):
        assert torch.equal(mixed[sample], sources[labels[sample]][sample])
    assert all(share.item() == pytest.approx(1 / 3, abs=0.03) for share in labels.bincount() / 3000)


def test_the_difference_of_images_and_back() -> None:
    lq, hq = torch.rand(2, 2, 3, 4, 4, dtype=torch.float64)
    part = SrDiffs(mode="produce_diff", lq="a", hq="b", out="x", diff="d")
    assert part.writes() == ("x", "d")
    beside, diff = part(lq=lq, hq=hq)
    assert torch.equal(diff, hq - lq) and torch.equal(beside, torch.cat([lq, hq - lq], 1))
    part = SrDiffs(mode="produce_diff", lq="a", hq="b", out="x", diff="d", include_combined=True)
    assert torch.equal(part(lq=lq, hq=hq)[0], torch.cat([lq, hq - lq, hq], 1))
    back = SrDiffs(mode="recombine", lq="a", hq="d", out="x")
    assert back.writes() == ("x",)
    torch.testing.assert_close(back(lq=lq, hq=diff), (hq,))


@pytest.mark.parametrize("options", [
    {"mode": "recombine", "diff": "d"}, {"mode": "recombine", "include_combined": True}, {"mode": "produce_diff"},
])  # fmt: skip
def test_the_difference_has_a_key_where_there_is_one(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="diff"):
        SrDiffs(lq="a", hq="b", out="x", **options)


def test_latents_for_mixing_differ_for_a_share_of_the_samples() -> None:
    torch.manual_seed(0)
    like = torch.zeros(4000, 1, dtype=torch.float64)
    first, second = Stylegan2Noise(in_="x", out="z", mix_probability=0.7, latent_dim=8)(in_=like)
    assert first.shape == second.shape == (4000, 8) and first.dtype == torch.float64
    same = (first == second).all(1)
    assert same.double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert ((first == second).any(1) == same).all()
    for latents in (first, second, second[~same]):
        assert latents.mean().item() == pytest.approx(0, abs=0.02)
        assert latents.std().item() == pytest.approx(1, abs=0.02)


def test_without_mixing_there_is_one_latent() -> None:
    (only,) = Stylegan2Noise(in_="x", out="z", mix_probability=0, latent_dim=8)(in_=torch.zeros(3, dtype=torch.int64))
    assert only.shape == (3, 8) and only.dtype == torch.float32


def test_each_channel_is_normalized_by_its_own_statistics(tmp_path: Path) -> None:
    shift, scale = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 0.5])
    torch.save((shift, scale), tmp_path / "stats.pt")
    part = FrequencyBinNormalize(in_="x", out="y", stats_file=tmp_path / "stats.pt")
    assert [need.file for need in part.needs()] == [tmp_path / "stats.pt"]
    part.setup()
    normal = part(in_=VIDEO)
    for channel in range(3):
        torch.testing.assert_close(normal[:, channel], (VIDEO[:, channel] - shift[channel]) / scale[channel].double())
    assert part(in_=VIDEO[..., 0]).shape == (2, 3, 4) and not part.state_dict()


@pytest.mark.parametrize(("held", "message"), [
    (torch.zeros(3), "expected a pair of tensors, got Tensor"),
    ((torch.zeros(3), torch.ones(2)), "as many scales as shifts"),
    ((torch.zeros(3), torch.zeros(3)), "none 0"),
])  # fmt: skip
def test_a_file_of_something_else_is_refused(tmp_path: Path, held: Any, message: str) -> None:
    torch.save(held, tmp_path / "stats.pt")
    with pytest.raises(RunError, match=message):
        FrequencyBinNormalize(in_="x", out="y", stats_file=tmp_path / "stats.pt").setup()
