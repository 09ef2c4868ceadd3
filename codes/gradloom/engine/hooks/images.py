"""Show state keys as grids of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradloom.config.sections import Logger
from gradloom.engine.hooks.hook import Hook, Run
from gradloom.raised import placed

_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Images(Hook):
    """Saves `logger.visuals` and lets networks draw: first, after every `visual_debug_rate` iterations, and last.

    A key that is not written in such an iteration, as its gate is shut, is shown of the next one that writes it.
    """

    def __init__(self, options: Logger, iterations: int) -> None:
        self.options, self.iterations = options, iterations
        self.owed: set[str] = set()

    def state(self) -> dict[str, Any]:
        return {"owed": sorted(self.owed)}

    def load(self, state: Mapping[str, Any]) -> None:
        self.owed = set(state.get("owed", ())) & set(self.options.visuals)

    def keeps(self, iteration: int) -> frozenset[str]:
        return frozenset(self.options.visuals) if self._due(iteration + 1) else frozenset(self.owed)

    def _due(self, done: int) -> bool:
        return done == 1 or done == self.iterations or done % self.options.visual_debug_rate == 0

    def after_iteration(self, run: Run, metrics: Mapping[str, Tensor]) -> None:
        due = self._due(run.trainer.iteration)
        self.owed |= set(self.options.visuals) if due else set()
        for key in filter(self.owed.__contains__, self.options.visuals):
            pieces = [micro.state[key] for micro in run.trainer.states if key in micro.state]
            if pieces:
                show(run, key, _joined(pieces), self.options)
                self.owed.remove(key)
        if due:
            self._let_networks_draw(run)

    @staticmethod
    def _let_networks_draw(run: Run) -> None:
        for name, draw in run.trainer.taking_part.drawings.items() if run.trainer.world.writes else ():
            folder = run.folder.images(f"networks/{name}")
            folder.mkdir(parents=True, exist_ok=True)
            with torch.no_grad(), placed(f"networks.{name}"):
                draw(run.trainer.iteration, folder)


def _joined(pieces: Sequence[Any]) -> Any:
    """What a key holds in all micro-batches, where it can be joined; else in the first."""
    tensors = [piece for piece in pieces if isinstance(piece, Tensor) and piece.dim() == 4]
    alike = len(tensors) == len(pieces) and len({piece.shape[1:] for piece in tensors}) == 1
    return torch.cat(tensors) if alike else pieces[0]


def show(run: Run, key: str, images: Any, options: Logger) -> None:
    """Save images (count, channels, height, width) as one grid, and show it to who listens."""
    if not run.trainer.world.writes:
        return
    is_image = isinstance(images, Tensor) and images.dim() == 4 and images.numel()
    if not is_image:
        what = f"of shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"({type(images).__name__})"
        run.log.say(f"{key!r} {what} is no image: expected (batch, channels, height, width)")
        return
    pixels = to_pixels(images[: options.visual_count], options)
    from torchvision.utils import make_grid, save_image  # takes a second and 100 MB, which few runs need at once

    grid = make_grid(pixels, nrow=max(1, round(len(pixels) ** 0.5)))
    file = run.folder.images(key) / f"{run.trainer.iteration:06d}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_image(grid, file)
    run.log.image(key, run.trainer.iteration, grid)
    run.outcome[f"images of {key}"] = str(file)


def to_pixels(images: Tensor, options: Logger) -> Tensor:
    """Bring images (B, C, H, W) to [0, 1] with one or three channels."""
    images = images.detach().float().cpu()
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    if options.reverse_n1_to_1:
        images = (images + 1) / 2
    if options.reverse_imagenet_norm and images.shape[1] == 3:
        images = images * _column(_IMAGENET_DEVIATION) + _column(_IMAGENET_MEAN)
    return images.clamp(0, 1)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)
