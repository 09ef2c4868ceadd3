"""Inception and its weights. No published weights here: random ones in a file of the same form."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import FeatureExtractorInceptionV3, calculate_metrics
from torch_fidelity.metric_fid import KEY_METRIC_FID

from gradloom.errors import RunError
from gradloom.evaluators import _inception as inception
from gradloom.evaluators._inception import FILE, HASH, Inception, cached_weights
from gradloom.evaluators.fid import Fid


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights, made by a network that is kept from loading any."""
    file = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save({}, file)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state_dict: None)
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    for module in network.modules():  # as large at the end as at the beginning
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=torch.Generator().manual_seed(0))
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for torch's downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


def images(count: int, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, channels, 24, 20), generator=torch.Generator().manual_seed(seed)).byte()


@pytest.fixture(scope="module")
def reference(weights: Path) -> FeatureExtractorInceptionV3:
    return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))


@pytest.fixture(scope="module")
def fid(weights: Path) -> Fid:
    fid = Fid(fake="f", real="r", weights=weights)
    fid.setup()
    return fid


def test_inception_gives_the_features_that_torch_fidelity_gives(
    fid: Fid, reference: FeatureExtractorInceptionV3
) -> None:
    features = fid.inception.features(images(3))
    assert features.shape == (3, 2048) and features.std() > 1e-3
    assert torch.equal(features, reference(images(3))[0])


def test_inception_stays_in_float32_under_autocast(fid: Fid) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        features = fid.inception.features(images(2))
    torch.testing.assert_close(features, fid.inception.features(images(2)), rtol=0, atol=0)


@pytest.mark.parametrize(("channels", "value_range"), [(1, (-1.0, 1.0)), (3, (0.0, 1.0))])
def test_fid_gives_inception_the_bytes_that_an_image_came_from(
    fid: Fid, reference: FeatureExtractorInceptionV3, channels: int, value_range: tuple[float, float]
) -> None:
    low, high = value_range
    fid, inception = Fid(fake="f", real="r", range=value_range), fid.inception
    fid.inception = inception
    pixels = {"fake": images(2, channels, seed=1), "real": images(1, channels, seed=2)}
    fid.add(fid(network=None, **{port: image / 255 * (high - low) + low for port, image in pixels.items()}))
    for port, image in pixels.items():
        features = reference(image.expand(-1, 3, -1, -1))[0].double()
        torch.testing.assert_close(fid.moments[port].mean, features.mean(0), rtol=1e-12, atol=1e-12)


def test_fid_keeps_inception_out_of_its_state(fid: Fid) -> None:
    assert not fid.state_dict() and not list(fid.modules())[1:]


def test_fid_says_which_weights_it_used(fid: Fid) -> None:
    fid.reset()
    fid.add(fid(fake=torch.rand(1, 3, 9, 9), real=torch.rand(2, 3, 9, 9), network=None))
    assert "Inception-v3 (torch-fidelity, weights random.pth (SHA-256 " in fid.protocol()
    assert "1 generated and 2 real images" in fid.protocol()


class Pixels(Dataset[Tensor]):
    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


@pytest.mark.slow
def test_fid_equals_torch_fidelitys_from_images_to_number(fid: Fid, weights: Path) -> None:
    fake, real = images(12, seed=1), images(9, seed=2) // 2
    theirs = calculate_metrics(
        input1=Pixels(fake), input2=Pixels(real), fid=True, cuda=False, batch_size=4, verbose=False,
        feature_extractor_weights_path=str(weights), save_cpu_ram=True,
    )  # fmt: skip
    fid.reset()
    for start in range(0, 12, 5):
        fid.add(fid(fake=fake[start : start + 5] / 255, real=real[start : start + 5] / 255, network=None))
    assert fid.compute()["fid"] == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-6)


def test_inception_says_where_its_weights_were_looked_for(no_cache: Path) -> None:
    assert cached_weights() == no_cache / "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(RunError) as fault:
        Fid(fake="f", real="r").setup()
    assert str(fault.value) == (
        f"fid: no weights of Inception at {no_cache}/weights-inception-2015-12-05-6726825d.pth; download "
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth "
        "to there, name where it lies with 'weights:', let 'download: true' fetch it, or measure with a 'network:' of "
        "the run"
    )


def test_inception_says_that_the_named_weights_are_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no weights of Inception at .*/there\.pth; "):
        Inception(tmp_path / "there.pth")


def test_inception_finds_its_weights_in_the_cache(no_cache: Path, weights: Path) -> None:
    no_cache.mkdir(parents=True)
    (no_cache / FILE).symlink_to(weights)
    assert Inception().source.startswith(FILE)


def test_inception_downloads_only_when_asked_to(no_cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, target, hash_prefix))
        Path(target).symlink_to(weights)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(RunError):
        Inception()
    assert not asked
    Inception(download=True)
    Inception(download=True)
    assert asked == [(inception.URL_INCEPTION_V3, str(no_cache / FILE), HASH)] and HASH == "6726825d"


def test_inception_says_why_a_download_failed(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(RunError, match=r"could not download https://.* to .*\.pth: .*no route to host"):
        Inception(download=True)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("content", [{"weight": torch.zeros(1)}, torch.zeros(1), {"fc.bias": Trap()}])
def test_inception_refuses_a_file_of_anything_else(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(RunError, match=r"other.pth is not a file of Inception's weights such as https://"):
        Inception(tmp_path / "other.pth")
    assert not Path("sprung").exists()


def test_inception_refuses_a_cut_file(weights: Path, tmp_path: Path) -> None:
    for length in (0, 1000):
        (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:length])
        with pytest.raises(RunError, match="is not a file of Inception's weights"):
            Inception(tmp_path / "cut.pth")


def test_fid_refuses_images_that_inception_cannot_see(fid: Fid) -> None:
    with pytest.raises(RunError, match=r"images \(B, 1 or 3, H, W\), got \(2, 4, 8, 8\)"):
        fid.add(fid(fake=torch.rand(2, 4, 8, 8), real=torch.rand(2, 3, 8, 8), network=None))
