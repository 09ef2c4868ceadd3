"""A small convolutional classifier, whose features can stand in for Inception's."""

from itertools import pairwise

from torch import Tensor, nn

from gradloom.networks._sizes import Positive, PowerOfTwo, expect_images, num_halvings
from gradloom.parts import networks


@networks.register("small_classifier")
class SmallClassifier(nn.Module):
    """Classifies images of (B, channels, image_size, image_size): logits of (B, num_classes).

    The images are in the value range that it is trained in. `width` channels see the full size; halvings down to 4x4
    double them, up to 4 width. Batch norms, ReLUs, and a mean over the places before the one linear layer. About 98,000
    parameters for grey images of 32 pixels.
    """

    def __init__(
        self,
        image_size: PowerOfTwo,
        channels: Positive = 3,
        num_classes: Positive = 10,
        width: Positive = 16,
    ) -> None:
        super().__init__()
        self.channels, self.image_size = channels, image_size
        widths = [width * min(2**i, 4) for i in range(num_halvings(image_size) + 1)]
        self.body = nn.Sequential(
            _layer(channels, width, stride=1),
            *(_layer(before, after, stride=2) for before, after in pairwise(widths)),
            _layer(widths[-1], widths[-1], stride=1),
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Images to what the last layer sees, (B, 4 width): not negative, meaningful once trained.

        Once trained, it serves a Frechet distance (Heusel et al. 2017, arXiv 1706.08500, section 2) where Inception's
        features make no sense, such as on digits. (B, 2 width) at image_size 8.
        """
        expect_images(x, self.channels, self.image_size)
        seen: Tensor = self.body(x).mean((2, 3))
        return seen

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits of (B, num_classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _layer(before: int, after: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))
