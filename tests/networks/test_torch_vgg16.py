import torch
from torchvision.models import vgg16_bn

from gradloom.networks.torch_vgg16 import TorchVGG16


def test_it_is_torchvisions() -> None:
    with torch.device("meta"):
        theirs = vgg16_bn(num_classes=3).state_dict()
        assert TorchVGG16(num_classes=3, norm=True).state_dict().keys() == theirs.keys()
        assert TorchVGG16().classifier[6].out_features == 1000
        assert TorchVGG16(dropout=0.1).classifier[2].p == 0.1
        made = TorchVGG16(num_classes=7)(torch.rand(2, 3, 32, 48))
    assert made.shape == (2, 7)
