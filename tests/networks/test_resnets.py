"""torchvision's ResNets under their names: sizes, weights from files and from the net, and what is said where there are none."""

import pytest
import torch
import torchvision
from torch import nn

from gradloom.parts import networks

COUNTS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160}
"""Parameters, as torchvision's documentation of its weights gives them."""


def made(name, **options):
    return networks.find(name)(**options)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_it_is_torchvisions(name):
    with torch.device("meta"):
        assert count(made(name)) == COUNTS[name]
        theirs = {key: value.shape for key, value in torchvision.models.get_model(name).state_dict().items()}
        assert {key: value.shape for key, value in made(name).state_dict().items()} == theirs


def test_it_computes_what_torchvisions_does():
    theirs = torchvision.models.resnet18().eval()
    network = made("resnet18").eval()
    network.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(network(x), theirs(x))


def test_weights_of_a_file_are_taken_and_another_head_starts_anew(tmp_path):
    theirs = torchvision.models.resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    network = made("resnet18", weights=tmp_path / "resnet18.pth", custom_head_logits=7)
    assert torch.equal(network.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert network.fc.weight.shape == (7, 512)


def test_weights_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"weights: there is no file .*none\.pth"):
        made("resnet18", weights=tmp_path / "none.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth does not hold weights of this network: "):
        made("resnet18", weights=tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.pth does not hold weights"):
        made("resnet18", weights=tmp_path / "text.pth")
    with pytest.raises(ValueError, match="'pretrained: true' asks for the published ones; keep one of the two"):
        made("resnet18", weights=tmp_path / "other.pth", pretrained=True)


def test_published_weights_are_read_from_the_cache_or_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    asked = []

    def unreachable(url, *_, **__):
        asked.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    words = rf"pretrained: could not fetch {url} \(no route to host\); fetch it elsewhere, and name its file with 'weights:'"
    with pytest.raises(ValueError, match=words):
        made("resnet18", pretrained=True)
    with torch.device("meta"):
        made("resnet18", pretrained=True)  # looking ahead fetches nothing
    assert asked == [url]
    theirs = torchvision.models.resnet18()
    file = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[-1]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(theirs.state_dict(), file)
    assert torch.equal(made("resnet18", pretrained=True).fc.weight, theirs.fc.weight)


def test_the_one_for_small_images_keeps_their_size():
    network = made("cifar_resnet18", num_classes=10)
    seen = []
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        network.get_submodule(name).register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert seen == [32, 32, 16, 8, 4]
    assert isinstance(network.conv1, nn.Conv2d)
    assert count(network) == 11_689_512 - 64 * 3 * (49 - 9) - 990 * 513
