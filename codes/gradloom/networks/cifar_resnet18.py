"""A ResNet of 18 layers for small images."""

from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from gradloom.networks._sizes import Positive
from gradloom.parts import networks


@networks.register("cifar_resnet18")
class CifarResNet18(ResNet):  # type: ignore[misc]
    """Classifies small images (B, 3, H, W), such as CIFAR's of 32 pixels: logits (B, num_classes).

    torchvision's ResNet-18 whose first layer sees 3x3 pixels and keeps the size, and that does not pool after it: the
    usual change for CIFAR, and the network that DL-Art-School has by this name. Weights have torchvision's names.
    """

    def __init__(self, num_classes: Positive = 100) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.maxpool = nn.Identity()
