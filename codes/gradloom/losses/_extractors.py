"""Networks of torchvision whose features images are compared by; they are frozen, and in no checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import VGG19_BN_Weights, VGG19_Weights, WeightsEnum, Wide_ResNet50_2_Weights

from gradloom.errors import RunError
from gradloom.parts import Need, widen

Model = Literal["vgg", "vgg_bn", "wide_resnet"]
Weights = Literal["imagenet", "random"]


@dataclass(frozen=True)
class Source:
    """How a network is made, how its rows are named, how many there are, the usual last one, the published weights."""

    make: Callable[[], nn.Module]
    inside: str
    layers: int
    usual: int
    weights: WeightsEnum


SOURCES: Mapping[Model, Source] = {
    "vgg": Source(models.vgg19, "features", 37, 34, VGG19_Weights.IMAGENET1K_V1),
    "vgg_bn": Source(models.vgg19_bn, "features", 53, 49, VGG19_BN_Weights.IMAGENET1K_V1),
    "wide_resnet": Source(models.wide_resnet50_2, "", 8, 6, Wide_ResNet50_2_Weights.IMAGENET1K_V1),
}


def need(model: Model, file: Path | None, download: bool) -> Need:
    """The file of the weights, and whence it comes where it may be downloaded."""
    published = SOURCES[model].weights
    url, size = published.url, int(published.meta["_file_size"] * 2**20)
    place = file or Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    missing = (
        f"no weights at {place}; download {url} to there, name where it lies with 'load_path:', "
        "or try without meaning with 'weights: random'"
    )
    return Need(place, missing, url if download and file is None else "", size)


class Extractor:
    """The first layers of a network of torchvision: images (B, 3 or 1, H, W) in [0, 1] to features (B, C, h, w).

    It is no `nn.Module`, so that its weights get into no checkpoint; it follows the images to their device and dtype.

    Raises:
        RunError: when the weights are not there, or are another network's.
    """

    def __init__(
        self, model: Model, layer: int | None, weights: Weights, file: Path | None = None, download: bool = False
    ) -> None:
        source = SOURCES[model]
        with torch.device("meta"):
            whole = source.make().get_submodule(source.inside)
        last = source.usual if layer is None else layer
        named = dict(list(whole.named_children())[: last + 1])
        rows = nn.Sequential(*named.values()).to_empty(device="cpu")
        self.network = nn.Sequential(Normalized(), *rows).requires_grad_(False).eval()
        if weights == "random":
            _draw(rows)
        else:
            inside = source.inside and f"{source.inside}."
            wanted = need(model, file, download)
            _fill({f"{inside}{name}": row for name, row in named.items()}, _read(wanted), model, wanted.file)

    def __call__(self, images: Tensor) -> Tensor:
        """The features, of gradients to the images, in whatever precision autocast is in."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise RunError(f"features are taken of images (B, 3 or 1, H, W), got {tuple(images.shape)}")
        images = widen(images).expand(-1, 3, -1, -1)
        features: Tensor = self.network.to(images.device, images.dtype)(images)
        return features


class Normalized(nn.Module):
    """Brings images (B, 3, H, W) in [0, 1] to the mean 0 and the deviation 1 that ImageNet's colours have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406), device="cpu").view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor((0.229, 0.224, 0.225), device="cpu").view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images to normalised ones."""
        return (images - self.get_buffer("mean")) / self.get_buffer("deviation")


@torch.no_grad()
def _draw(network: nn.Module) -> None:
    """Give a network random weights, the same in every run: He et al.'s normal ones (arXiv 1502.01852, section 2.2)."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()


def _read(wanted: Need) -> Mapping[str, Tensor]:
    """The weights in a file, which is downloaded if it may be."""
    file = wanted.file
    if not file.is_file() and not wanted.url:
        raise RunError(wanted.missing)
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(wanted.url, str(file), file.stem.rsplit("-", 1)[-1], progress=False)
        state: Mapping[str, Tensor] = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # pickle's own errors, and those of what it holds, beside those of the way there
        raise RunError(f"could not {f'download {wanted.url} to' if wanted.url else 'read'} {file}: {error}") from error
    return state


def _fill(rows: Mapping[str, nn.Module], state: Mapping[str, Tensor], model: Model, file: Path) -> None:
    """Load rows by their names; in a file there may be more, and `module.` or `model.` may stand before the names."""
    known = {name.removeprefix("module.").removeprefix("model."): value for name, value in state.items()}
    for prefix, row in rows.items():
        try:
            row.load_state_dict({name: known[f"{prefix}.{name}"] for name in row.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise RunError(f"{file} has no weights of torchvision's {model!r}: {prefix} does not fit") from error
