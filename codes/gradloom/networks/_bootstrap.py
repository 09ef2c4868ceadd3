"""What the variants of BYOL share: a network up to a layer with a head on it, its slow copy, and their distance."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from math import cos, pi
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gradloom.errors import suggest
from gradloom.parts import widen

Decay = Annotated[float, Ge(0), Lt(1)]
Iterations = Annotated[int, Gt(0)]


class Encoder(nn.Module):
    """A network, of which one layer's output is taken, and a head that projects it.

    `layer` is a name as `named_modules` gives it, or the number of a child; -1 stands for the network's own output.
    `head` makes the head for the shape that the layer's output has for `example`.

    Raises:
        ValueError: when there is no such layer, or its output is no tensor.
    """

    def __init__(
        self, net: nn.Module, layer: str | int, head: Callable[[torch.Size], nn.Module], example: Tensor
    ) -> None:
        super().__init__()
        self.net, self.layer = net, _name_of(net, layer)
        training = net.training
        net.eval()
        with torch.no_grad():
            shape = self.represent(example).shape
        net.train(training)
        self.projector = head(shape)

    def represent(self, x: Tensor) -> Tensor:
        """What the layer makes of a batch."""
        made: list[Tensor] = []
        with self.net.get_submodule(self.layer).register_forward_hook(lambda _module, _inputs, out: made.append(out)):
            self.net(x)
        if not made or not isinstance(made[-1], Tensor):
            what = "is not called" if not made else f"makes a {type(made[-1]).__name__}, not a tensor"
            raise ValueError(f"hidden_layer: the layer {self.layer!r} {what}; choose another")
        return made[-1]

    def forward(self, x: Tensor) -> Tensor:
        """A batch to its projections."""
        projections: Tensor = self.projector(self.represent(x))
        return projections


class Bootstrap(nn.Module):
    """An encoder that learns to predict what a slow copy of it makes of another view (Grill et al. 2020).

    arXiv 2006.07733, section 3.1. Before each iteration the copy moves towards the encoder: target = decay * target +
    (1 - decay) * online. With `steps` the decay rises to 1 over as many iterations, along half a cosine:
    1 - (1 - decay) * (cos(pi * iteration / steps) + 1) / 2.

    The copy's weights are frozen parameters: checkpoints hold them, no optimizer has them. They move only between
    iterations, so micro-batches and processes see the same, and where an update was skipped they move towards weights
    that stayed. In a network's average they are averaged too, which gives the very copy that the averaged encoder
    would have. As the authors', the copy's batch norms go by the batch.
    """

    def __init__(self, encoder: Encoder, predictor: nn.Module, decay: float, steps: int | None) -> None:
        super().__init__()
        self.online_encoder, self.online_predictor = encoder, predictor
        self.target_encoder = deepcopy(encoder).requires_grad_(False)
        self._decay, self._steps = decay, steps

    def decay_at(self, iteration: int) -> float:
        """How much of itself the copy keeps before an iteration."""
        if self._steps is None:
            return self._decay
        return 1 - (1 - self._decay) * (cos(pi * min(iteration / self._steps, 1)) + 1) / 2

    def update_for_step(self, iteration: int) -> None:
        """Let the copy follow the encoder."""
        move = get_ema_multi_avg_fn(self.decay_at(iteration))  # type: ignore[no-untyped-call]
        move([*self.target_encoder.parameters()], [*self.online_encoder.parameters()], iteration)

    def get_debug_values(self, iteration: int) -> Mapping[str, float]:
        """What to log: how much of itself the copy keeps."""
        return {"target_ema_beta": self.decay_at(iteration)}


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    """2 - 2 cos of the angle between vectors (N, D): the squared distance of their directions, (N,); equation 2."""
    return 2 - 2 * cosine_similarity(widen(prediction), widen(target), dim=1)


def mlp(inputs: int, outputs: int, hidden: int) -> list[nn.Module]:
    """The layers of section 3.3: linear, batch norm, ReLU, linear."""
    return [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)]


def head(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """A head for whatever is flattened first, with the names that weights have in DL-Art-School."""
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), net=nn.Sequential(*mlp(inputs, outputs, hidden))))


def _name_of(net: nn.Module, layer: str | int) -> str:
    """The name of a layer; that of the whole network is empty."""
    if layer == -1:
        return ""
    if isinstance(layer, int):
        children = [name for name, _ in net.named_children()]
        if not -len(children) <= layer < len(children):
            raise ValueError(f"hidden_layer: the subnet has {len(children)} children, so none has the number {layer}")
        return children[layer]
    names = [name for name, _ in net.named_modules() if name]
    if layer not in names:
        raise ValueError(f"hidden_layer: the subnet has no layer {layer!r}; {suggest(layer, names)}")
    return layer
