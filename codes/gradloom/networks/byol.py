"""Bootstrap Your Own Latent: a network learns features from two views of each image, without labels."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import torch
from torch import Size, Tensor, nn

from gradloom.networks._bootstrap import Bootstrap, Decay, Encoder, Iterations, distance, head, mlp
from gradloom.networks._sizes import Positive
from gradloom.parts import NetworkChoice, networks


@networks.register("byol")
class Byol(Bootstrap):
    """Trains a `subnet` on two views of the same images, (B, channels, image_size, image_size) each; returns the loss.

    Grill et al. 2020 (arXiv 2006.07733), equation 2, both ways: the mean of 4 - 2 cos(p1, z2) - 2 cos(p2, z1), from 0
    to 8, where p is what the head predicts from one view and z what the slow copy makes of the other. What is learnt is
    `online_encoder.net`, up to `hidden_layer`. Weights have the names of DL-Art-School.

    `aug_enable` draws another random view of each image first: jitter of colours, grey, mirror, blur, a random part. It
    needs images in [0, 1], or to know how they were normalized; switch it off where the dataset draws the views.

    Raises `ValueError` where the subnet has no such layer, and for options that do not go together.
    """

    def __init__(
        self,
        subnet: NetworkChoice,  # the network to train: its `which_model` and options
        image_size: Positive,
        hidden_layer: str | int,  # whose output are the features: a name, or the number of a child; -1 is the output
        use_structural_mlp: bool = False,  # a head with two strided convolutions, for a layer that makes maps
        positional_dims: Literal[1, 2] = 2,  # 2 for images, 1 for sequences (B, channels, image_size)
        aug_enable: bool = True,
        normalize: Literal["imagenet", "stylegan2_norm"] | None = None,  # how images come, if not in [0, 1]
        projection_size: Positive = 256,
        projection_hidden_size: Positive = 4096,
        moving_average_decay: Decay = 0.99,  # of the slow copy, each iteration
        moving_average_steps: Iterations | None = None,  # over which the decay rises to 1 along a cosine
        channels: Positive = 3,
    ) -> None:
        if aug_enable and (positional_dims, channels) != (2, 3):
            raise ValueError("aug_enable: views are drawn of RGB images only; write 'aug_enable: false'")
        if normalize and not aug_enable:
            raise ValueError("normalize: it says of which images views are drawn; with 'aug_enable: false' remove it")
        sizes = {"outputs": projection_size, "hidden": projection_hidden_size}

        def projector(shape: Size) -> nn.Module:
            return _structural_head(shape, **sizes) if use_structural_mlp else head(shape[1:].numel(), **sizes)

        example = torch.zeros(1, channels, *[image_size] * positional_dims)
        encoder = Encoder(subnet.build(), hidden_layer, projector, example)
        predictor = head(projection_size, **sizes)
        super().__init__(encoder, predictor, moving_average_decay, moving_average_steps)
        self.augment = _views(normalize, image_size) if aug_enable else None

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        """Two views, sample by sample of the same images, to the loss."""
        if self.augment is not None:
            one, two = self.augment(one), self.augment(two)
        predictions = [self.online_predictor(self.online_encoder(view)) for view in (one, two)]
        with torch.no_grad():
            targets = [self.target_encoder(view) for view in (one, two)]
        return (distance(predictions[0], targets[1]) + distance(predictions[1], targets[0])).mean()

    def features(self, x: Tensor) -> Tensor:
        """Images, as they are, to the features learnt, (B, D)."""
        return self.online_encoder.represent(x).flatten(1)


def _structural_head(shape: Size, outputs: int, hidden: int) -> nn.Module:
    """A head for maps: two convolutions halve them before they are flattened."""
    if len(shape) not in (3, 4):
        raise ValueError(f"use_structural_mlp: it is for a layer that makes maps; this one makes {tuple(shape)}")
    convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if len(shape) == 4 else (nn.Conv1d, nn.BatchNorm1d)
    channels, *sides = shape[1:]
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [convolution(channels, channels, 3, stride=2, padding=1), norm(channels), nn.ReLU(inplace=True)]
        sides = [(side + 1) // 2 for side in sides]
    flat = Size([channels, *sides]).numel()
    return nn.Sequential(OrderedDict(net=nn.Sequential(*layers, nn.Flatten(), *mlp(flat, outputs, hidden))))


def _views(normalized: Literal["imagenet", "stylegan2_norm"] | None, image_size: int) -> Callable[[Tensor], Tensor]:
    from gradloom.networks._views import views  # imports kornia, which most runs do not need

    return views(normalized, image_size)
