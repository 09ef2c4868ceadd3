"""BYOL of maps: a network learns features of every place of an image, from two views that overlap."""

from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Size, Tensor, nn

from gradloom.networks._bootstrap import Bootstrap, Decay, Encoder, Iterations, distance
from gradloom.networks._sizes import Positive
from gradloom.networks._weights import fill
from gradloom.parts import NetworkChoice, networks


@networks.register("structural_byol")
class StructuralByol(Bootstrap):
    """Trains a `subnet` that makes maps, on two views (B, 3, image_size, image_size); returns the loss.

    The loss is BYOL's (Grill et al. 2020, arXiv 2006.07733, equation 2) of every place that both views show:
    4 - 2 cos(p1, z2) - 2 cos(p2, z1), the mean over an image's places, then over images. Which places these
    are say the numbers (B, 12) that `byol_structured_dataset` gives as `similar_region_dimensions`; without them, as
    for views that are cut alike, all places are compared. Heads are convolutions of 1x1.

    The ancestor also compared the zeros with which it filled up smaller regions.

    Raises `ValueError` where the subnet has no such layer, or it makes no maps, and for weights that do not fit.
    """

    def __init__(
        self,
        subnet: NetworkChoice,  # the network to train: its `which_model` and options
        image_size: Positive,
        hidden_layer: str | int,  # whose maps are the features: a name, or the number of a child; -1 is the output
        pretrained_path: Path | None = None,  # a file of weights that the subnet starts from
        freeze_until: Annotated[int, Ge(0)] = 0,  # iterations in which the heads alone learn
        projection_size: Positive = 256,
        projection_hidden_size: Positive = 512,
        moving_average_decay: Decay = 0.99,  # of the slow copy, each iteration
        moving_average_steps: Iterations | None = None,  # over which the decay rises to 1 along a cosine
    ) -> None:
        def projector(shape: Size) -> nn.Module:
            if len(shape) != 4:
                raise ValueError(f"hidden_layer: it has to make maps (B, C, H, W); this one makes {tuple(shape)}")
            return _Tail(shape[1], projection_size, projection_hidden_size)

        net = subnet.build()
        if pretrained_path is not None:
            fill(net, pretrained_path, "pretrained_path")
        encoder = MapEncoder(net, hidden_layer, projector, torch.zeros(1, 3, image_size, image_size))
        predictor = _Tail(projection_size, projection_size, projection_hidden_size)
        super().__init__(encoder, predictor, moving_average_decay, moving_average_steps)
        self._freeze_until = freeze_until
        self._units_are_right = False  # looked at once, since a GPU would have to be waited for

    def update_for_step(self, iteration: int) -> None:
        """Let the copy follow the encoder, whose subnet learns from some iteration on."""
        super().update_for_step(iteration)
        if isinstance(self.online_encoder, MapEncoder):
            self.online_encoder.frozen = iteration < self._freeze_until

    def forward(self, one: Tensor, two: Tensor, regions: Tensor | None = None) -> Tensor:
        """Two views, and where they overlap, to the loss."""
        predictions = [self.online_predictor(self.online_encoder(view)) for view in (one, two)]
        with torch.no_grad():
            targets = [self.target_encoder(view) for view in (one, two)]
        if regions is not None and not self._units_are_right and not regions.is_meta:
            _check_units(regions, targets[0])
            self._units_are_right = True
        forward = _mean_distance(*_places(predictions[0], targets[1], regions))
        backward = _mean_distance(*_places(targets[0], predictions[1], regions))
        return (forward + backward).mean()

    def features(self, x: Tensor) -> Tensor:
        """Images, as they are, to the mean of the maps learnt, (B, D)."""
        return self.online_encoder.represent(x).flatten(2).mean(2)


class MapEncoder(Encoder):
    """An encoder whose network may be left as it is while its head learns."""

    frozen = False

    def forward(self, x: Tensor) -> Tensor:
        """Views to projections of every place."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            represented = self.represent(x)
        projections: Tensor = self.projector(represented)
        return projections


class _Tail(nn.Module):
    """A head that sees every place by itself."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True), nn.Conv2d(hidden, outputs, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.net(x)
        return made


def _check_units(regions: Tensor, maps: Tensor) -> None:
    units, (height, width) = int(regions[0, 0]), maps.shape[-2:]
    if (height, width) != (units, units):
        why = f"regions count {units} units a side, the layer's maps have {height}x{width} places"
        raise ValueError(f"{why}; 'latent_multiple' of the dataset is how many pixels a side a place stands for")


def _places(first: Tensor, second: Tensor, regions: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Bring the places that both maps show together; where there are fewer than places, the last tells which count."""
    if regions is None:
        return first, second, None
    side = first.shape[-1]
    _, height1, width1, top1, left1, height2, width2, top2, left2, flipped, height, width = regions.T[:, :, None]
    steps = torch.arange(side, device=regions.device)[None]
    rows1, rows2 = ((top + steps) * side // size for top, size in ((top1, height1), (top2, height2)))
    columns1, columns2 = ((left + steps) * side // size for left, size in ((left1, width1), (left2, width2)))
    columns2 = torch.where(flipped == 1, side - 1 - columns2, columns2)
    counts = (steps < height)[:, :, None] & (steps < width)[:, None, :]
    return _gathered(first, rows1, columns1), _gathered(second, rows2, columns2), counts


def _gathered(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Maps (B, C, N, N) at the rows and columns (B, N) of each; what lies beyond is whatever is nearest."""
    last = maps.shape[-1] - 1
    places = rows.clamp(0, last)[:, :, None] * (last + 1) + columns.clamp(0, last)[:, None, :]
    found = maps.flatten(2).gather(2, places.flatten(1)[:, None].expand(-1, maps.shape[1], -1))
    return found.view_as(maps)


def _mean_distance(first: Tensor, second: Tensor, counts: Tensor | None) -> Tensor:
    """The mean distance of an image's places that count, (B,)."""
    distances = distance(first, second)
    if counts is None:
        return distances.mean((1, 2))
    return (distances * counts).sum((1, 2)) / counts.sum((1, 2))
