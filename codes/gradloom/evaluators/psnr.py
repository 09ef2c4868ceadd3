"""Peak signal-to-noise ratio."""

from torch import Tensor

from gradloom.evaluators._comparison import Comparison


class Psnr(Comparison, type="psnr"):
    """Averages the PSNR of each image, in decibels; equal images have an infinite one.

    It is -10 log10 of the mean squared error of values in [0, 1], over all pixels and channels of one image. The mean
    of the images' ratios is not the ratio of their mean error: it is never less.
    """

    def score(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the ratio of each image in decibels."""
        return -10 * (fake - real).square().mean(dim=(1, 2, 3)).log10()

    def protocol(self) -> str:
        """What was averaged, and how the images were prepared."""
        return f"PSNR of each image: {super().protocol()}"
