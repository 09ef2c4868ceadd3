"""The Inception network on whose features the literature measures FID and KID, as torch-fidelity rebuilt it."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from gradloom.errors import RunError
from gradloom.parts import Need

FILE = URL_INCEPTION_V3.rsplit("/", 1)[-1]
SIZE = 91 * 2**20  # bytes, about
HASH = Path(FILE).stem.rsplit("-", 1)[-1]  # the published file is named after the beginning of its SHA-256


class Inception:
    """Inception-v3 of 2015-12-05 with its TensorFlow weights, up to the last pooling.

    It is no `nn.Module`, so that its weights get into no checkpoint of whoever holds it; it follows the images to
    their device.
    """

    def __init__(self, weights: Path | None = None, download: bool = False) -> None:
        file = _find(weights, download)
        self.network = _load(file)
        self.source = f"{file.name} (SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:8]})"

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 2048) in float32 of images (B, 3, H, W) in uint8, which it scales to 299 x 299."""
        self.network.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            features: Tensor = self.network(images)[0]
        return features


def cached_weights() -> Path:
    """The file that torch-fidelity keeps its download in."""
    return Path(torch.hub.get_dir(), "checkpoints", FILE)


def need(weights: Path | None, download: bool) -> Need:
    """The file of the weights, and whence it comes where it may be downloaded."""
    file = weights or cached_weights()
    missing = (
        f"no weights of Inception at {file}; download {URL_INCEPTION_V3} to there, name where it lies "
        "with 'weights:', let 'download: true' fetch it, or measure with a 'network:' of the run"
    )
    return Need(file, missing, URL_INCEPTION_V3 if download else "", SIZE)


def _find(weights: Path | None, download: bool) -> Path:
    wanted = need(weights, download)
    file = wanted.file
    if file.is_file():
        return file
    if not download:
        raise RunError(wanted.missing)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file), hash_prefix=HASH, progress=False)
    except (OSError, RuntimeError) as error:  # no connection, no room; another file than was published
        raise RunError(f"could not download {URL_INCEPTION_V3} to {file}: {error}") from error
    return file


def _load(file: Path) -> nn.Module:
    try:
        torch.load(file, weights_only=True, map_location="cpu")  # torch-fidelity would run what a pickle tells it to
        network: nn.Module = FeatureExtractorInceptionV3(
            "inception", ["2048"], feature_extractor_weights_path=str(file)
        )
    except Exception as error:  # pickle's own errors, and those of what it holds
        raise RunError(f"{file} is not a file of Inception's weights such as {URL_INCEPTION_V3}") from error
    return network
