"""torchvision's ResNet of 101 layers."""

from torchvision.models import ResNet101_Weights
from torchvision.models.resnet import Bottleneck

from gradloom.networks._resnets import Classifier
from gradloom.parts import networks


@networks.register("resnet101")
class ResNet101(Classifier):
    """Classifies images (B, 3, H, W): logits of 1,000 classes, or of `custom_head_logits`.

    He et al. 2016 (arXiv 1512.03385), table 1, as torchvision has it; weights have its names. Those that are published
    were trained on ImageNet and want images with its mean and deviation. For 32 pixels there is `cifar_resnet18`.
    """

    block, layers, published = Bottleneck, [3, 4, 23, 3], ResNet101_Weights.IMAGENET1K_V1
