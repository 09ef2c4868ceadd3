"""Losses of features, against torchvision's networks applied by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from gradloom.errors import RunError
from gradloom.losses._extractors import Extractor, need
from gradloom.losses.feature import Feature
from gradloom.losses.interpreted_feature import InterpretedFeature

torch.manual_seed(0)
REAL, FAKE = torch.rand(2, 2, 3, 16, 16)


def made(cls: type[Any], **options: Any) -> Any:
    part = cls(**{"real": "hq", "fake": "gen", "criterion": "l1", **options})
    part.setup()
    return part


def published(file: Path, model: str, seed: int, prefix: str = "") -> nn.Module:
    """A network of torchvision with random weights, which are in a file too but for the classifier."""
    torch.manual_seed(seed)
    with torch.device("meta"):
        network = models.get_model(model)
    body = nn.Sequential(*network.features[:8]) if "vgg" in model else nn.Sequential(*list(network.children())[:5])
    body.to_empty(device="cpu")
    for parameter in body.parameters():
        nn.init.normal_(parameter, std=0.2)
    for name, buffer in body.named_buffers():
        buffer.fill_(0) if "mean" in name or "tracked" in name else buffer.fill_(1.5)
    names = [f"features.{i}" for i in range(8)] if "vgg" in model else [n for n, _ in network.named_children()][:5]
    weights = {
        f"{prefix}{n}.{key}": v for n, row in zip(names, body, strict=True) for key, v in row.state_dict().items()
    }
    torch.save(weights | {f"{prefix}fc.weight": torch.zeros(1)}, file)
    return body.eval().requires_grad_(False)


def normalized(images: Tensor) -> Tensor:
    colours = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    return (images - colours[0]) / colours[1]


@pytest.mark.parametrize("criterion", ["l1", "l2", "cosine"])
@pytest.mark.parametrize(("model", "named", "layer"), [("vgg", "vgg19", 7), ("wide_resnet", "wide_resnet50_2", 4)])
def test_is_the_distance_of_features(tmp_path: Path, model: str, named: str, layer: int, criterion: str) -> None:
    network = published(tmp_path / "w.pth", named, 1)
    part = made(Feature, which_model_F=model, layer=layer, load_path=tmp_path / "w.pth", criterion=criterion)
    fake, real = FAKE.clone().requires_grad_(), REAL.clone().requires_grad_()
    loss = part(real=real, fake=fake)
    a, b = network(normalized(FAKE)), network(normalized(REAL))
    lengths = (a**2).sum(1).sqrt() * (b**2).sum(1).sqrt()
    expected = {
        "l1": lambda: (a - b).abs().mean(), "l2": lambda: ((a - b) ** 2).mean(),
        "cosine": lambda: 1 - ((a * b).sum(1) / lengths.clamp_min(1e-16)).mean(),
    }[criterion]()  # fmt: skip
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-6)
    loss.backward()
    assert real.grad is None and fake.grad is not None and fake.grad.abs().sum() > 0


def test_the_usual_layers_are_the_last_convolution_before_its_relu() -> None:
    for model, channels, size, last in (("vgg", 512, 1, nn.Conv2d), ("vgg_bn", 512, 1, nn.Conv2d)):
        extractor = Extractor(model, None, "random")
        assert isinstance(extractor.network[-1], last) and extractor(FAKE[:1]).shape == (1, channels, size, size)
        convolutions = [layer for layer in extractor.network if isinstance(layer, nn.Conv2d)]
        assert len(convolutions) == 16  # conv5_4 is VGG19's sixteenth and last
    assert Extractor("wide_resnet", None, "random")(FAKE[:1, :, :, :]).shape == (1, 1024, 1, 1)


def test_random_weights_are_the_same_everywhere_and_draw_nothing_from_the_run() -> None:
    before = torch.get_rng_state()
    one, other = (made(Feature, weights="random", layer=3)(real=REAL, fake=FAKE) for _ in range(2))
    assert one == other > 0 and torch.equal(before, torch.get_rng_state())


def test_the_network_stays_frozen_in_eval_mode_and_out_of_checkpoints() -> None:
    part = made(Feature, which_model_F="wide_resnet", weights="random", layer=4)
    part.train()
    before = [value.clone() for value in part.extractors[0].network.state_dict().values()]
    part(real=REAL, fake=FAKE.clone().requires_grad_()).backward()
    after = part.extractors[0].network.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True)) and not part.state_dict()
    assert not any(value.requires_grad or value.grad for value in part.extractors[0].network.parameters())


def test_grey_images_count_as_colours_and_others_are_refused() -> None:
    part = made(Feature, weights="random", layer=3)
    grey = REAL[:, :1], FAKE[:, :1]
    three = [images.expand(-1, 3, -1, -1) for images in grey]
    assert part(real=grey[0], fake=grey[1]) == part(real=three[0], fake=three[1])
    with pytest.raises(RunError, match=r"of images \(B, 3 or 1, H, W\), got \(2, 2, 16, 16\)"):
        part(real=REAL[:, :2], fake=FAKE[:, :2])


def test_each_side_is_seen_by_its_own_network(tmp_path: Path) -> None:
    one, other = published(tmp_path / "a.pth", "vgg19", 1, "module."), published(tmp_path / "b.pth", "vgg19", 2)
    part = InterpretedFeature(real="hq", fake="gen", criterion="l2", layer=7, load_path=tmp_path / "a.pth")
    part.files = lambda: (tmp_path / "a.pth", tmp_path / "b.pth")  # type: ignore[method-assign]
    part.setup()
    expected = ((one(normalized(FAKE)) - other(normalized(REAL))) ** 2).mean()
    torch.testing.assert_close(part(real=REAL, fake=FAKE), expected, rtol=1e-4, atol=1e-6)


def test_what_is_needed_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    (wanted,) = Feature(real="hq", fake="gen", criterion="l1").needs()
    assert wanted.file == file and wanted.url.endswith("/vgg19-dcbb9e9d.pth") and wanted.size > 5e8
    (wanted,) = Feature(real="hq", fake="gen", criterion="l1", download=False).needs()
    assert not wanted.url and "name where it lies with 'load_path:'" in wanted.missing
    (wanted,) = Feature(real="hq", fake="gen", criterion="l1", load_path=tmp_path / "mine.pth").needs()
    assert wanted.file == tmp_path / "mine.pth" and not wanted.url
    assert not list(Feature(real="hq", fake="gen", criterion="l1", weights="random").needs())
    both = InterpretedFeature(real="hq", fake="gen", criterion="l1", load_path=tmp_path / "mine.pth").needs()
    assert [wanted.file for wanted in both] == [tmp_path / "mine.pth", file]


def test_weights_that_are_not_there_or_another_networks(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"no weights at {tmp_path}/none.pth; download https://"):
        made(Feature, load_path=tmp_path / "none.pth")
    published(tmp_path / "w.pth", "vgg19", 1)
    with pytest.raises(RunError, match=r"w.pth has no weights of torchvision's 'vgg': features.10 does not fit"):
        made(Feature, load_path=tmp_path / "w.pth", layer=10)
    (tmp_path / "odd.pth").write_bytes(b"odd")
    with pytest.raises(RunError, match=r"could not read .*odd\.pth: "):
        made(Feature, load_path=tmp_path / "odd.pth")
    assert need("vgg", None, True).file.name == "vgg19-dcbb9e9d.pth"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": 37}, "'layer' is less than 37, which 'vgg' has; 37 is not"),
        ({"weights": "random", "load_path": Path("x")}, "'load_path' names weights, and 'weights: random' draws them"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Feature(real="hq", fake="gen", criterion="l1", **options)


def test_an_interpreter_has_a_file() -> None:
    with pytest.raises(ValueError, match="option 'load_path' is missing; it takes the file of the network that looks"):
        InterpretedFeature(real="hq", fake="gen", criterion="l1")
