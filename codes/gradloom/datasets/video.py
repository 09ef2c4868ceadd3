"""The frames of a film."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from gradloom.datasets._films import open_film
from gradloom.datasets._smaller import Positive
from gradloom.errors import RunError
from gradloom.parts import datasets


@datasets.register("video")
@dataclass(eq=False)
class Video(Dataset[dict[str, Tensor]]):
    """The frames of a film: `lq` of (3, H, W) in [0, 1].

    `video_file` is a folder of images, whose order is that of their names; an animated GIF, WebP or PNG; or any other
    film if ffmpeg and ffprobe are there, which decode it in one process where the ancestor started one for each frame.
    There is a frame every 1 / frame_rate seconds, from the start to the end of the film, or of what is asked for.

    `lq_fullsize_ref` is `lq` with a fourth channel of ones, `lq_center` its middle, int64 by row and column.
    """

    video_file: Path
    frame_rate: Annotated[float, Gt(0)]  # frames a second
    start_at_seconds: Annotated[float, Ge(0)] = 0.0
    end_at_seconds: Annotated[float, Gt(0)] | None = None  # none is the end of the film, which may come before
    vertical_splits: Positive = 1  # each frame is so many samples, side by side, as films for two eyes have them
    force_multiple: Positive = 1  # black is added on the right and at the bottom until the sides divide

    keys = ("lq", "lq_fullsize_ref", "lq_center")

    def __post_init__(self) -> None:
        if self.force_multiple > 1 and self.vertical_splits > 1:
            raise ValueError("'force_multiple' adds black between 'vertical_splits'; remove one")
        if self.end_at_seconds is not None and self.end_at_seconds <= self.start_at_seconds:
            raise ValueError(f"'end_at_seconds' has to be after {self.start_at_seconds}, where it starts")
        self.film = open_film(self.video_file, self.frame_rate, self.start_at_seconds)
        self.frames = self.film.count
        if self.end_at_seconds is not None:
            asked = int((self.end_at_seconds - self.start_at_seconds) * self.frame_rate + 1e-3)
            self.frames = min(self.frames, asked)
        if self.frames < 1:
            raise RunError(f"{self.video_file} has no frame from {self.start_at_seconds} seconds on")

    def __len__(self) -> int:
        return self.frames * self.vertical_splits

    def name_of(self, index: int) -> str:
        """The film and the number of the frame."""
        frame, part = divmod(index, self.vertical_splits)
        return f"{self.video_file}/{frame:08d}" + (f"_{part}" if self.vertical_splits > 1 else "")

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        frame, part = divmod(range(len(self))[index], self.vertical_splits)
        lq = self.film.frame(frame)
        width = lq.shape[-1] // self.vertical_splits
        lq = lq[:, :, part * width : (part + 1) * width]
        down, right = (-side % self.force_multiple for side in lq.shape[-2:])
        lq = pad(lq, (0, right, 0, down)) if down or right else lq.contiguous()
        height, width = lq.shape[-2:]
        ref = torch.cat([lq, torch.ones(1, height, width)])
        return {"lq": lq, "lq_fullsize_ref": ref, "lq_center": torch.tensor([height // 2, width // 2])}
