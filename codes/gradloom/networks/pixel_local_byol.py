"""BYOL of single points: a network learns to describe what is at a place of an image, without labels."""

from typing import Literal

import torch
from torch import Size, Tensor, nn

from gradloom.networks._bootstrap import Bootstrap, Decay, Encoder, Iterations, distance, head
from gradloom.networks._points import draw_parts, draw_points, values_at
from gradloom.networks._sizes import Positive
from gradloom.parts import NetworkChoice, networks


@networks.register("pixel_local_byol")
class PixelLocalByol(Bootstrap):
    """Trains a `subnet` that makes maps, on images (B, 3, H, W); returns the loss.

    A point is drawn in each image, and two random parts of it that hold the point, resized to `image_size`; their
    colours are changed, and every other part is mirrored. What `hidden_layer` makes of a view at the point, bilinearly
    between places, is projected and compared as in BYOL (Grill et al. 2020, arXiv 2006.07733, equation 2): the mean of
    4 - 2 cos(p1, z2) - 2 cos(p2, z1). The point is never nearer to a view's edge than 1/16 of its side.

    After DL-Art-School's network of this name. There the subnet was given the point, and a whole batch had one point
    and one part, drawn again and again until the point was far enough from the edge.

    Raises `ValueError` where the subnet has no such layer, or it makes no maps.
    """

    def __init__(
        self,
        subnet: NetworkChoice,  # the network to train: its `which_model` and options
        image_size: Positive,  # of the views
        hidden_layer: str | int,  # whose maps are the features: a name, or the number of a child; -1 is the output
        normalize: Literal["imagenet", "stylegan2_norm"] | None = None,  # how images come, if not in [0, 1]
        projection_size: Positive = 256,
        projection_hidden_size: Positive = 4096,
        moving_average_decay: Decay = 0.99,  # of the slow copy, each iteration
        moving_average_steps: Iterations | None = None,  # over which the decay rises to 1 along a cosine
    ) -> None:
        from gradloom.networks._views import colours  # imports kornia, which most runs do not need

        def projector(shape: Size) -> nn.Module:
            if len(shape) != 4:
                raise ValueError(f"hidden_layer: it has to make maps (B, C, H, W); this one makes {tuple(shape)}")
            return head(shape[1], projection_size, projection_hidden_size)

        encoder = PointEncoder(subnet.build(), hidden_layer, projector, torch.zeros(1, 3, image_size, image_size))
        predictor = head(projection_size, projection_size, projection_hidden_size)
        super().__init__(encoder, predictor, moving_average_decay, moving_average_steps)
        self.image_size = image_size
        self.colours = colours(normalize)

    def forward(self, images: Tensor) -> Tensor:
        """Images to the loss."""
        points = draw_points(images)
        parts = [draw_parts(points) for _ in range(2)]
        one, two = (self.colours(part.cut(images, self.image_size)) for part in parts)
        return self.compare(one, two, *(part.seen_at(points) for part in parts))

    def compare(self, one: Tensor, two: Tensor, point_one: Tensor, point_two: Tensor) -> Tensor:
        """Two views and where the point is in each, (B, 2) in (x, y) and in sides of the view, to the loss."""
        seen = ((one, point_one), (two, point_two))
        predictions = [self.online_predictor(self.online_encoder(*view)) for view in seen]
        with torch.no_grad():
            targets = [self.target_encoder(*view) for view in seen]
        return (distance(predictions[0], targets[1]) + distance(predictions[1], targets[0])).mean()

    def features(self, x: Tensor) -> Tensor:
        """Images, as they are, to the mean of the maps learnt, (B, D)."""
        return self.online_encoder.represent(x).flatten(2).mean(2)

    def at(self, x: Tensor, points: Tensor) -> Tensor:
        """Images, as they are, and a point in each, (B, 2) in (x, y) and in sides, to the features there, (B, D)."""
        return values_at(self.online_encoder.represent(x), points)


class PointEncoder(Encoder):
    """An encoder whose head sees one point of the maps."""

    def forward(self, x: Tensor, points: Tensor) -> Tensor:  # type: ignore[override]
        """Views, and a point in each, to projections."""
        projections: Tensor = self.projector(values_at(self.represent(x), points))
        return projections
