"""FID with the features of a network of the run."""

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from gradloom.errors import RunError
from gradloom.evaluators.fid import Fid


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 16), nn.Tanh())

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier().double()


def evaluator() -> Fid:
    fid = Fid(fake="gen", real="hq", network="classifier")
    fid.setup()
    fid.reset()
    return fid


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measure(classifier: nn.Module, fake: Tensor, real: Tensor, batch_size: int) -> float:
    fid = evaluator()
    for fakes, reals in zip(fake.split(batch_size), real.split(batch_size), strict=True):
        fid.add(fid(fake=fakes, real=reals, network=classifier))
    (value,) = fid.compute().values()
    return value


@pytest.mark.parametrize("batch_size", [1, 7, 50, 99, 100])
@pytest.mark.parametrize("count", [10, 100])
def test_fid_equals_torch_fidelitys_on_the_same_features(classifier: Classifier, batch_size: int, count: int) -> None:
    fake, real = images(count, seed=1) ** 2, images(count, seed=2)
    statistics = [fid_features_to_statistics(classifier.features(x).detach()) for x in (fake, real)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
    assert measure(classifier, fake, real, batch_size) == pytest.approx(expected, rel=1e-6)


def test_fid_may_measure_more_images_of_one_kind(classifier: Classifier) -> None:
    fid = evaluator()
    fid.add(fid(fake=images(5, 1), real=images(3, 2), network=classifier))
    fid.add(fid(fake=images(5, 3), real=images(9, 4), network=classifier))
    assert fid.compute()["fid"] > 0
    assert "'classifier', 10 generated and 12 real images" in fid.protocol()


def test_fid_forgets_at_reset(classifier: Classifier) -> None:
    fid = evaluator()
    fid.add(fid(fake=images(5, 1) * 9, real=images(5, 2), network=classifier))
    fid.reset()
    fid.add(fid(fake=images(5, 3), real=images(5, 3), network=classifier))
    assert fid.compute() == {"fid": pytest.approx(0, abs=1e-12)}


@pytest.mark.parametrize(("fakes", "reals", "port"), [(1, 2, "fake"), (2, 1, "real")])
def test_fid_needs_two_images_of_each_kind(classifier: Classifier, fakes: int, reals: int, port: str) -> None:
    fid = evaluator()
    fid.add(fid(fake=images(fakes, 1), real=images(reals, 2), network=classifier))
    with pytest.raises(RunError, match=f"fid: needs at least two images at '{port}', got 1"):
        fid.compute()


def test_fid_of_nothing_is_no_number() -> None:
    with pytest.raises(RunError, match="needs at least two images at 'fake', got 0"):
        evaluator().compute()


@pytest.mark.parametrize("port", ["fake", "real"])
def test_fid_names_features_that_are_not_numbers(classifier: Classifier, port: str) -> None:
    given = {"fake": images(6, 1), "real": images(6, 2)}
    given[port][4, 0, 0, 0] = torch.nan
    fid = evaluator()
    fid.add(fid(network=classifier, **given))
    with pytest.raises(RunError, match=f"fid: features of the 6 images at '{port}' are not all finite numbers"):
        fid.compute()


def test_fid_names_a_network_without_features() -> None:
    with pytest.raises(RunError, match="the network 'classifier' has no method 'features'"):
        evaluator()(fake=images(2, 1), real=images(2, 2), network=nn.Flatten())


def test_fid_names_features_of_the_wrong_shape() -> None:
    class Maps(nn.Module):
        def features(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(RunError, match=r"must be \(2, D\), one vector for each image, got \(2, 3, 6, 6\)"):
        evaluator()(fake=images(2, 1), real=images(2, 2), network=Maps())


@pytest.mark.parametrize("options", [{"range": (-1.0, 1.0)}, {"download": True}])
def test_fid_refuses_options_of_inception_beside_a_network(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="range, weights and download are for Inception"):
        Fid(fake="gen", real="hq", network="classifier", **options)


def test_fid_refuses_a_range_that_goes_down() -> None:
    with pytest.raises(ValueError, match="range goes from a lower to a higher value, not from 1 to 0"):
        Fid(fake="gen", real="hq", range=(1.0, 0.0))
