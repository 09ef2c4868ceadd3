"""Random views of images, as contrastive learning trains on, drawn from torch's generator."""

import kornia.augmentation as K
from torch import nn


def colours() -> list[nn.Module]:
    """Jitter, grey and blur of images (B, 3, H, W) in [0, 1], with the strengths that SimCLR has (arXiv 2002.05709)."""
    return [
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((3, 3), (1.5, 1.5), p=0.1),
    ]


def views(image_size: int) -> nn.Sequential:
    """Colours, a mirror image every other time, and a random part of 8 to 100 percent, resized to `image_size`."""
    jitter, grey, blur = colours()
    return nn.Sequential(jitter, grey, K.RandomHorizontalFlip(), blur, K.RandomResizedCrop((image_size, image_size)))
