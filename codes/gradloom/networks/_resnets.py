"""torchvision's ResNets, with published weights or those of a file."""

from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from torchvision.models import ResNet, WeightsEnum
from torchvision.models.resnet import BasicBlock, Bottleneck

from gradloom.networks._sizes import Positive
from gradloom.networks._weights import fill


class Classifier(ResNet):  # type: ignore[misc]
    """torchvision's network, started from weights where the options ask for it, then given another last layer.

    Raises:
        ValueError: when weights are neither there nor to be had, or belong to another network.
    """

    block: ClassVar[type[BasicBlock | Bottleneck]]
    layers: ClassVar[list[int]]
    published: ClassVar[WeightsEnum]

    def __init__(
        self,
        pretrained: bool = False,  # start from the published weights, fetched where torch's cache does not have them
        weights: Path | None = None,  # start from those of a file as torchvision publishes it
        custom_head_logits: Positive | None = None,  # another last layer, that starts anew
    ) -> None:
        super().__init__(self.block, self.layers)
        self.fc: nn.Linear
        if pretrained and weights:
            raise ValueError("weights: 'pretrained: true' asks for the published ones; keep one of the two")
        if weights:
            fill(self, weights, "weights")
        elif pretrained and not self.fc.weight.is_meta:
            self.load_state_dict(_published(self.published))
        if custom_head_logits is not None:
            self.fc = nn.Linear(self.fc.in_features, custom_head_logits)


def _published(weights: WeightsEnum) -> Any:
    """Weights from torch's cache, where they are put if they can be fetched."""
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError) as error:  # no connection, no room; another file than was published
        what = f"could not fetch {weights.url} ({error})"
        raise ValueError(f"pretrained: {what}; fetch it elsewhere, and name its file with 'weights:'") from error
