"""Structural similarity."""

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from gradloom.errors import RunError
from gradloom.evaluators._comparison import Comparison

WINDOW = 11
"""Pixels at each side of the Gaussian window, whose sigma is 1.5."""


class Ssim(Comparison, type="ssim"):
    """Averages the SSIM of each image, which is 1 for equal images.

    It follows Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity" (section
    III.B, K1 = 0.01, K2 = 0.03): channels apart, a Gaussian window of 11 pixels, and only where the window lies
    inside the image. Needs images, less their cropped borders, of at least 11 x 11 pixels.
    """

    def score(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the similarity of each image, from -1 to 1."""
        if min(real.shape[2:]) < WINDOW:
            size = f"{real.shape[2]} x {real.shape[3]}"
            raise RunError(f"ssim: needs images of at least {WINDOW} x {WINDOW} pixels, got {size}")
        _, quality = structural_similarity_index_measure(
            fake, real, sigma=1.5, reduction="none", data_range=1.0, return_full_image=True
        )
        edge = WINDOW // 2
        return quality[..., edge:-edge, edge:-edge].mean(dim=(1, 2, 3))

    def protocol(self) -> str:
        """What was averaged, by which implementation, and how the images were prepared."""
        return f"SSIM (torchmetrics, Gaussian window of 11, its inside only) of each image: {super().protocol()}"
