"""How far images are apart for a network that knows photographs."""

import torch
from torch import Tensor

from gradloom.losses._criteria import distance
from gradloom.losses._featured import Featured
from gradloom.parts import Scalar


class Feature(Featured, type="feature"):
    """Averages the distance of the features of `fake` and `real`, images (B, 3 or 1, H, W) in [0, 1].

    The features are those of a frozen classifier of ImageNet in eval mode, before the ReLU in the case of VGG, as in
    ESRGAN (arXiv 1809.00219, section 3.3); images are normalised to ImageNet's mean and deviation first. `real` gets
    no gradient.

        vgg            VGG19, up to its layer 34 unless `layer` says otherwise: conv5_4, for H and W of 16 or more
        vgg_bn         the same with batch norms; conv5_4 is its layer 49
        wide_resnet    Wide ResNet-50-2 up to layer3, its row 6

    `criterion` is as in the loss `pix`; `cosine` compares the channels at each place. Weights are torchvision's,
    downloaded to its cache of 548 MB (vgg), 548 MB (vgg_bn) or 132 MB (wide_resnet), or those in the file `load_path`.
    `weights: random` is for trying a run where there are none: features of a network that nobody trained still tell
    images apart, but not as people do.
    """

    def forward(self, real: Tensor, fake: Tensor) -> Scalar:
        (extract,) = self.extractors
        with torch.no_grad():
            wanted = extract(real)
        return distance(self.criterion, extract(fake), wanted)
