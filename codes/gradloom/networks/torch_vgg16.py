"""torchvision's VGG16."""

from typing import Annotated

from annotated_types import Ge, Lt
from torch import Tensor, nn
from torchvision.models import vgg16, vgg16_bn

from gradloom.networks._sizes import Positive
from gradloom.parts import networks


@networks.register("torch_vgg16")
class TorchVGG16(nn.Module):
    """Classifies images (B, 3, H, W), of 32 pixels or more: logits (B, num_classes).

    Simonyan and Zisserman 2015 (arXiv 1409.1556), configuration D, with batch norms for `norm`. Names are torchvision's
    and DL-Art-School's: published weights load as they are.
    """

    def __init__(
        self, num_classes: Positive = 1000, dropout: Annotated[float, Ge(0), Lt(1)] = 0.5, norm: bool = False
    ) -> None:
        super().__init__()
        whole = (vgg16_bn if norm else vgg16)(num_classes=num_classes, dropout=dropout)
        self.features, self.avgpool, self.classifier = whole.features, whole.avgpool, whole.classifier

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits
