"""The sizes that networks take, and the words that refuse others."""

from typing import Annotated

from annotated_types import Ge, Gt
from pydantic import AfterValidator
from torch import Tensor


def num_halvings(image_size: int) -> int:
    """How often an image is halved until it is 4 pixels wide; a `ValueError` unless that comes out even."""
    if image_size < 8 or image_size & (image_size - 1):
        raise ValueError(f"an image size here is a power of two from 8 up, such as 32 or 64; {image_size} is not")
    return image_size.bit_length() - 3


def _checked(image_size: int) -> int:
    num_halvings(image_size)
    return image_size


Positive = Annotated[int, Gt(0)]
PowerOfTwo = Annotated[int, Ge(8), AfterValidator(_checked)]
"""The width, which is also the height, of images that are halved down to 4 pixels."""


def expect_images(x: Tensor, channels: int, image_size: int) -> None:
    """Refuse, with a `ValueError`, a batch that is not of (B, channels, image_size, image_size)."""
    if x.shape[1:] != (channels, image_size, image_size):
        raise ValueError(f"expected images of shape (B, {channels}, {image_size}, {image_size}), got {tuple(x.shape)}")
